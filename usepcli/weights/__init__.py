"""Models as files: found by name, read with their card, built and filled with weights."""
