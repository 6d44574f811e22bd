"""Separator architectures: waveforms in, waveforms out."""
