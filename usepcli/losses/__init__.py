"""Losses in dB, unreduced: one family per file."""
