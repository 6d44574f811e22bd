"""Signal processing shared by models, losses, metrics and objectives."""
