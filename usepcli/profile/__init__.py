"""Profiles: one YAML file per experiment, typed, with the origin of every value."""
