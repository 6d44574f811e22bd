"""Sample rates that there are: what a file or a model claims beyond is a mistake, or meant to take all memory."""

from __future__ import annotations

HIGHEST_RATE = 768_000  # Hz; converters end here
