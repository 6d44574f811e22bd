"""Items of several channels: in which of them a source is scored, and what the channels come to.

A source is scored in every channel in which its reference sounds, and its score is the mean over these: what two ears
or two microphones get, each by itself.  Energies taken over all channels together would let a loud channel speak for
a quiet one, and STOI and PESQ know one channel only.  A channel in which the reference is silent, as of a talker panned
to one side, has no score and takes none away; how loud the estimate is there stands in the row's reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from usepcli.engine.scoring.scoring import Signals

SILENT_RMS = 1e-8
FAINT = 1e-3  # of the loudest channel's rms: the rounding of 16 bits lies there, which nobody separates
JOINED = "one after the other, as one long signal: the energies of all are taken together; the papers have one channel"
MEANT = {
    "each": "the mean over the channels in which the reference sounds (within 60 dB of its loudest channel, rms above "
    f"{SILENT_RMS:g}), one assignment, by the energies of all channels together; a channel that the references or the "
    "mixture leave without a score is left out, and reason in items.csv says so",
    "first": "the first channel of every file",
    "mix": "the mean of a file's channels",
}


def split(waves: np.ndarray) -> np.ndarray:
    """Return waves (N, T) or (N, C, T) as float64 (N, C, T)."""
    waves = np.asarray(waves, np.float64)
    return waves[:, None] if waves.ndim == 2 else waves


def sounding(ref: np.ndarray) -> np.ndarray:
    """Return in which channels of references (K, C, T) there is something to score (K, C); yes where not finite."""
    if not ref.shape[-1]:
        return np.zeros(ref.shape[:2], bool)
    rms = np.sqrt(np.mean(np.square(ref), -1))  # (K, C)
    least = np.maximum(SILENT_RMS, FAINT * rms.max(1, keepdims=True, initial=0.0))
    return np.asarray(~(rms <= least))


def mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the means (K,) of values (K, C) over the channels `where` (K, C) says yes, nan where it never does."""
    count = where.sum(1)
    total = np.where(where, values, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def joined(waves: np.ndarray, zero_mean: bool = False) -> np.ndarray:
    """Return waves (N, T) or (N, C, T) as float64 (N, T) or (N, C T), channels one after the other.

    zero_mean: of several channels, take the mean of each away.
    """
    waves = np.asarray(waves, np.float64)
    if waves.ndim == 2:
        return waves
    waves = waves - waves.mean(-1, keepdims=True) if zero_mean else waves
    return waves.reshape(len(waves), -1)


def named(channels: Sequence[int]) -> str:
    """Return how channels, from 0, are called: counted from 1."""
    return f"channel{'s' * (len(channels) > 1)} {', '.join(str(c + 1) for c in channels)}"


def left_out(est: np.ndarray, ref: np.ndarray, heard: np.ndarray) -> str:
    """Return which channels of a source have no score (heard (C,) false), and how loud the estimate (C, T) is there.

    In dB against the reference (C, T) in the other channels.
    """
    silent = [int(c) for c in np.flatnonzero(~heard)]
    if not silent:
        return ""
    there, here = (float(np.mean(np.square(wave))) for wave in (est[~heard], ref[heard]))
    level = f", estimate there at {10 * np.log10(there / here):.0f} dB" if there > SILENT_RMS**2 and here > 0 else ""
    return f"{named(silent)}: silent reference{level}"


def loudest(signals: Signals) -> Signals:
    """Return an item, estimates in the order of its references, with each source in one channel: est and ref (K, T).

    That is the channel in which its reference is loudest: for whoever hears one channel.  The mixture is that of the
    first source's channel.
    """
    if np.ndim(signals.ref) == 2:
        return signals
    best = np.square(split(signals.ref)).sum(-1).argmax(1)  # (K,)
    rows = np.arange(len(best))
    mix = None if signals.mix is None else signals.mix[best[0]]
    return signals._replace(est=signals.est[rows, best], ref=signals.ref[rows, best], mix=mix)


def few(signals: Signals) -> Signals:
    """Return an item as it can be played: as it is with two channels or one, else as `loudest` gives it."""
    return signals if np.ndim(signals.ref) == 2 or signals.ref.shape[1] <= 2 else loudest(signals)


def counted(rows: Sequence[dict[str, Any]], how: str) -> dict[str, Any]:
    """Return for evaluate.json what was heard of the channels, and the most channels of an item that was scored."""
    return {"how": how, "most": max((int(row.get("channels", 1)) for row in rows), default=1)}


def line(most: int, together: bool = False) -> str:
    """Return what is said of scores that were taken in up to `most` channels; together: as a protocol takes them."""
    if together:
        return f"channels: {most}, scored as one long signal; the papers have one (--channels first or mix)"
    return (
        f"channels: {most}, scores are means over those in which a reference sounds (--channels first or mix: of one)"
    )
