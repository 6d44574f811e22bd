"""Loudness of a stream of blocks (ITU-R BS.1770-4, the filters of pyloudnorm) in constant memory."""

from __future__ import annotations

import math

import numpy as np

_BLOCK_S, _STEPS = 0.4, 4  # gating blocks of 400 ms, one every 100 ms
_ABSOLUTE_LUFS, _RELATIVE_LU = -70.0, -10.0
_PASSES, _EXACT_LU = 4, 1e-6  # the second pass finds it exact where the gates hold back the same blocks
_SURROUND, _LFE = 1.41, 0.0  # weights of the channels at the sides and of the one for effects
# By number of channels, in the order of WAV files: 5.0, 5.1, 6.1 and 7.1; in all others every channel counts once.
_WEIGHTS = {
    5: (1, 1, 1, _SURROUND, _SURROUND),
    6: (1, 1, 1, _LFE, _SURROUND, _SURROUND),
    7: (1, 1, 1, _LFE, 1, _SURROUND, _SURROUND),
    8: (1, 1, 1, _LFE, 1, 1, _SURROUND, _SURROUND),
}


class LoudnessMeter:
    """Integrated loudness: `push` blocks (C, T), then read `lufs`. Holds one number per 100 ms."""

    def __init__(self, rate: int, channels: int) -> None:
        import pyloudnorm  # it and the filters of scipy take a second to import, help and wrong lines none

        self.rate, self.channels = rate, channels
        # The shelf at 1500 Hz of a slower recording lies above all that it holds, and as a filter would not be stable.
        filters = [f for f in pyloudnorm.Meter(rate)._filters.values() if f.fc < rate / 2]
        self._sections = [(f.b, f.a, np.zeros((channels, max(len(f.a), len(f.b)) - 1))) for f in filters]
        self._weights = np.array(_WEIGHTS.get(channels, (1,) * channels), float)
        self._edges = 0  # number of 100 ms steps cut so far
        self._taken = 0
        self._rest = np.zeros((channels, 0))
        # By step, over the channels. One object per step would stay between the large blocks of the heap for hours,
        # break it up and make it grow; a buffer that doubles is moved a dozen times.
        self._energies = np.zeros(4096)

    def push(self, block: np.ndarray) -> None:
        """Add a block (C, T)."""
        from scipy.signal import lfilter

        wave = np.asarray(block, np.float64)
        for index, (b, a, state) in enumerate(self._sections):
            wave, state = lfilter(b, a, wave, axis=1, zi=state)
            self._sections[index] = (b, a, state)
        self._taken += wave.shape[1]
        held = np.concatenate([self._rest, wave**2], axis=1)
        begin, start = self._taken - held.shape[1], 0
        while (stop := self._edge(self._edges + 1) - begin) <= held.shape[1]:
            if self._edges == len(self._energies):
                self._energies = np.concatenate([self._energies, np.zeros(self._edges)])
            self._energies[self._edges] = self._weights @ held[:, start:stop].sum(1)
            self._edges, start = self._edges + 1, stop
        self._rest = held[:, start:].copy()  # a view would keep the whole block

    def _edge(self, step: int) -> int:
        return int(_BLOCK_S * (step / _STEPS) * self.rate)

    def lufs(self) -> float:
        """Return the integrated loudness in LUFS: -inf for silence, nan for less than 0.4 s."""
        energies = self._energies[: self._edges]
        if len(energies) < _STEPS:
            return math.nan
        total = np.convolve(energies, np.ones(_STEPS), "valid") / (_BLOCK_S * self.rate)  # (blocks,)
        with np.errstate(divide="ignore"):
            level = -0.691 + 10 * np.log10(total)
            loud = level >= _ABSOLUTE_LUFS
            if not loud.any():
                return -math.inf
            gate = -0.691 + 10 * np.log10(total[loud].mean()) + _RELATIVE_LU
        return float(-0.691 + 10 * np.log10(total[loud & (level > gate)].mean()))


def loudness(wave: np.ndarray, rate: int) -> float:
    """Return the loudness of one channel (T,) in LUFS, with silence behind less than 0.4 s; -inf of silence."""
    meter = LoudnessMeter(rate, 1)
    block = math.ceil(_BLOCK_S * rate)
    meter.push(np.pad(wave, (0, max(0, block - len(wave))))[None])
    return meter.lufs()


def at_loudness(wave: np.ndarray, rate: int, target: float) -> np.ndarray:
    """Return one channel (T,) brought to a loudness in LUFS; silence stays silence.

    The gate at -70 LUFS does not move with the level, so what is near it is measured again where it comes to stand.
    """
    peak = np.abs(wave).max(initial=0.0)
    if not peak:
        return wave
    wave = wave / peak  # far above the gate, however quiet the recording
    for _ in range(_PASSES):
        found = loudness(wave, rate)
        if abs(found - target) < _EXACT_LU:
            break
        wave = wave * gain_to(target, found)
    return wave


def gain_to(target: float, found: float) -> float:
    """Return the linear gain from `found` to `target` LUFS; 1.0 where nothing could be measured."""
    return 10 ** ((target - found) / 20) if math.isfinite(found) else 1.0
