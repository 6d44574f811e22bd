"""The command line: one file per command over the plain functions of the engine."""
