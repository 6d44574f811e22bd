"""The items of a manifest as they are scored: read, trimmed, at one rate; and why one cannot be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from usepcli import guard
from usepcli.data.items import trimmed_item
from usepcli.engine.scoring.scoring import FAILED, Signals
from usepcli.errors import ConfigError, MissingDependency, UsageError

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.data.manifest import Row as ManifestRow

Say = Callable[[str], None]


class Reading:
    """Reads the items of a manifest at a rate (Hz, 0: their own), trimmed to one length, and says once what it changes.

    summed: the mixture is the sum of the sources, padded to the row's length; its file is not opened.
    """

    def __init__(self, manifest: Manifest, rate: int, summed: bool, channels: str, say: Say) -> None:
        self.manifest, self.rate, self.summed, self.channels, self.say = manifest, rate, summed, channels, say
        self._resampled: set[int] = set()

    def __call__(self, row: ManifestRow) -> Signals:
        """Return mixture and sources of one row, without estimates; errors as trimmed_item."""
        from usepcli.audio.resample import resample

        item = trimmed_item(self.manifest, row, self.summed, self.channels)
        assert item.sources is not None
        waves = np.concatenate([item.mix[None], item.sources])  # (1+K,T) or (1+K,C,T)
        rate = self.rate or item.rate
        if item.rate != rate:
            waves = resample(waves, item.rate, rate)
            if item.rate not in self._resampled:
                self._resampled.add(item.rate)
                first = self.manifest.resolve(row.sources[0] if self.summed or not row.mixture else row.mixture)
                self.say(f"{first}: {item.rate} Hz, resampled and scored at the model's {self.rate} Hz")
        names = tuple(f"s{k + 1}" for k in range(len(row.sources)))
        return Signals(row.id, names, waves[:0], waves[1:], waves[0], item.note, rate)


def unseparated(reading: Reading, batches: Iterable[list[ManifestRow]]) -> Iterator[Signals]:
    """Yield each item without estimates; one that cannot be read comes without signals, and its note says why."""
    for row in itertools.chain.from_iterable(batches):
        try:
            yield reading(row)
        except Exception as error:
            yield lost(row, error)


def lost(row: ManifestRow, error: Exception) -> Signals:
    """Return an item without signals, whose note says why it has none."""
    names, none = tuple(f"s{k + 1}" for k in range(len(row.sources))), np.zeros((0, 0), np.float32)
    return Signals(row.id, names, none, none, None, why(error, row.id))


def why(error: Exception, item: str) -> str:
    """Return the reason of an item that could not be read, separated or scored; what is no item's fault is raised."""
    return FAILED + guard.reason(error, item, (UsageError, ConfigError, MissingDependency))
