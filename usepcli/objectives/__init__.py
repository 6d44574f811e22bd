"""Training objectives: one per file, each owning the modules that it trains."""
