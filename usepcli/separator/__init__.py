"""The one way from a waveform or a stream to its sources."""
