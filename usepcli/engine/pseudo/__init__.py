"""Pseudo-mixtures on disk: the sources of a set, shuffled into new mixtures."""
