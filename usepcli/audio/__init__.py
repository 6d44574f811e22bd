"""Sound files, resampling and loudness."""
