"""Training, evaluation, separation and preparation: the work behind every command."""
