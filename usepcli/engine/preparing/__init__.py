"""From recordings to data sets."""
