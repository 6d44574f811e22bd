"""Job files for the schedulers of clusters: printed, never submitted."""
