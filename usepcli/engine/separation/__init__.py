"""From recordings to their sources: the signal path, and batches of files."""
