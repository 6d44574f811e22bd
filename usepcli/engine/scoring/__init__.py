"""Scores of models and of files, and what people hear."""
