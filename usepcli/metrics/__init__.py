"""Metrics that return one value per source."""
