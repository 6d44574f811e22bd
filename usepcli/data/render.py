"""Mixtures made from a plan: 16-bit integers whose sources add up to the mixture exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a plan knows how it is rendered
    from usepcli.data.mixtures import Plan, Turn

LEVEL_DBFS = -26.0  # mean level of a talker while active, the customary one of telephone speech
_PEAK = 0.98  # what a common gain leaves of full scale; the rest takes up rounding
_FADE_S = 0.01
_ACTIVE_DB = 40.0
Load = Callable[[str], np.ndarray]


def render(plan: Plan, rate: int, load: Load) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return int16 mix (T,), sources (K, T) and noise (T,) or None; the mix is exactly their sum.

    load(path) returns the int16 samples (T,) of a pool file. Talkers are brought to one active level plus
    their gain; if anything would clip, one gain for all keeps the sum and the ratios.
    """
    parts = np.zeros((len(plan.turns) + bool(plan.noise), plan.frames))
    for part, turn in zip(parts, plan.turns, strict=False):
        wave = joined(turn, rate, load)
        level = active_rms(wave, rate)
        scale = 10 ** ((LEVEL_DBFS + turn.gain_db) / 20) / level if level else 0.0
        part[turn.at : turn.at + turn.frames] = wave * scale
    n_src = len(plan.turns)
    if plan.noise:
        parts[n_src] = noise_part(plan, parts[:n_src].sum(axis=0), load)
    codes = quantise(parts, parts.sum(axis=0))
    mix = codes.sum(axis=0)
    whole = codes.astype(np.int16)
    return mix.astype(np.int16), whole[:n_src], whole[n_src] if plan.noise else None


def noise_part(plan: Plan, speech: np.ndarray, load: Load) -> np.ndarray:
    """Return the plan's stretch of noise (T,), repeated where it ends early, at its level below speech (T,)."""
    noise = load(plan.noise).astype(np.float64)
    wave = np.take(noise, np.arange(plan.noise_start, plan.noise_start + plan.frames), mode="wrap")
    power = np.mean(wave**2)
    if not power:
        return np.zeros(plan.frames)
    return wave * math.sqrt(np.mean(speech**2) / power * 10 ** (-plan.noise_snr_db / 10))


def quantise(parts: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Return parts (K, T) as 16-bit codes in int32; one gain for all where a part or the mix would clip."""
    peak = max(np.abs(mix).max(), np.abs(parts).max())
    return np.rint(parts * (32768 * min(1.0, _PEAK / peak if peak else 1.0))).astype(np.int32)


def placed(turn: Turn, frames: int, rate: int, load: Load) -> np.ndarray:
    """Return a turn in the silence of a mixture (frames,), at the level of its recording."""
    part = np.zeros(frames)
    part[turn.at : turn.at + turn.frames] = joined(turn, rate, load)
    return part


def joined(turn: Turn, rate: int, load: Load) -> np.ndarray:
    """Return the talker's samples (frames,) as float64; joints get short fades so that they do not click."""
    waves = [load(path).astype(np.float64) / 32768 for path in turn.paths]
    if len(waves) > 1:
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, round(_FADE_S * rate) + 1) / (round(_FADE_S * rate) + 1))
        for k, wave in enumerate(waves):
            n = min(len(ramp), len(wave))
            if k:
                wave[:n] *= ramp[:n]
            if k < len(waves) - 1:
                wave[len(wave) - n :] *= ramp[:n][::-1]
        pieces = [waves[0]]
        for pause, wave in zip(turn.pauses, waves[1:], strict=True):
            pieces += [np.zeros(pause), wave]
        waves = [np.concatenate(pieces)]
    return waves[0][turn.start : turn.start + turn.frames]


def active_rms(wave: np.ndarray, rate: int) -> float:
    """Return the rms of the 20 ms frames within 40 dB of the loudest: the level while talking."""
    size = max(1, rate // 50)
    edges = np.arange(0, len(wave), size)
    power = np.add.reduceat(wave**2, edges) / np.diff(np.append(edges, len(wave)))
    active = power[power >= power.max() * 10 ** (-_ACTIVE_DB / 10)]
    return float(np.sqrt(active.mean()))
