"""What a shuffled set is made with, and which of its mixtures are shuffled together: plans without audio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from usepcli.data import lazy
from usepcli.data.manifest import Manifest
from usepcli.data.sampling import rng
from usepcli.dsp import shuffle
from usepcli.errors import BadInput, UsageError, choices

SUBTYPES = {"FLOAT": 0, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}  # bits; none for floating point
_TOGETHER = 2  # what is drawn here, see remix_set


@dataclass(frozen=True)
class Settings:
    """What a set is made with; `seconds` 0 takes whole mixtures, `split` '' every split, `n_remix` 0 all outputs."""

    kind: str = "constrained"
    channel_shuffle: bool = True
    n_remix: int = 0
    residual: bool = True
    batch: int = 16
    rounds: int = 1
    split: str = ""
    seconds: float = 0.0
    seed: int = 0
    normalize: bool = True
    subtype: str = "FLOAT"

    def check(self, model: bool = True) -> None:
        """Raise UsageError for values that make no set; model: one separates the mixtures."""
        if self.n_remix and not model:
            raise UsageError("--n-remix chooses among the outputs of a model: name one with --model, or leave it out")
        if self.kind not in shuffle.KINDS:
            raise UsageError(f"--kind: {choices('shuffle', self.kind, shuffle.KINDS)}")
        if self.subtype not in SUBTYPES:
            raise UsageError(f"--subtype: {choices('sample format', self.subtype, SUBTYPES)}")
        if not 0 <= self.seconds < math.inf:
            raise UsageError(
                f"--seconds: found {self.seconds:g}; expected a length in seconds, or 0 for whole mixtures"
            )
        for name, least in (("batch", 2), ("rounds", 1), ("n_remix", 0), ("seed", 0)):
            if getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag}: found {getattr(self, name)}; expected {least} or more")


def rows_of(manifest: Manifest, split: str) -> Manifest:
    """Return the mixtures of a split, all of them for ''; UsageError for an unknown one, BadInput where none is."""
    if split and split not in manifest.splits():
        raise UsageError(f"--split: {choices('split', split, map(str, manifest.splits()))}")
    kept = manifest.split(split) if split else manifest
    if not kept.rows:
        raise BadInput(f"{manifest.path}: no mixtures; expected two or more")
    return kept


class Group(NamedTuple):
    """Mixtures that are shuffled together; `first` numbers its first pseudo-mixture within the round."""

    number: int
    round: int
    split: str
    rows: list[int]
    first: int


def plan(manifest: Manifest, settings: Settings, n_src: int) -> list[Group]:
    """Return which mixtures are shuffled together, in every round others; UsageError where they are too few.

    Only mixtures of one split meet. Whole mixtures meet others of similar length; a smaller last batch joins the one
    before, so that no shuffle lacks mixtures.
    """
    groups: list[Group] = []
    lengths = manifest.frames / np.maximum(manifest.rates, 1)
    splits, which = lazy.names(manifest.rows, "split")
    for turn in range(settings.rounds):
        first = 0
        for index, split in enumerate(splits):
            rows = np.flatnonzero(which == index)
            _check_size(settings, split, len(rows), n_src)
            rows = rows[rng(settings.seed, turn, index, _TOGETHER).permutation(len(rows))]
            if not settings.seconds:
                rows = rows[np.argsort(lengths[rows], kind="stable")]
            cuts = list(range(settings.batch, len(rows) - settings.batch + 1, settings.batch))
            for part in np.split(rows, cuts):
                groups.append(Group(len(groups), turn, split, part.tolist(), first))
                first += len(part)
    return groups


def least(kind: str, n_src: int) -> int:
    """Return how many mixtures a shuffle needs."""
    return 2 if kind == "free" else n_src


def _check_size(settings: Settings, split: str, n_rows: int, n_src: int) -> None:
    needed = least(settings.kind, n_src)
    if settings.batch < needed:
        raise UsageError(
            f"--batch: found {settings.batch}; --kind {settings.kind} needs {needed} mixtures together for {n_src} "
            "sources of each"
        )
    if n_rows < needed:
        where = f"split '{split}': " if split else ""
        other = "" if settings.kind == "free" else ", or --kind free"
        raise UsageError(
            f"{where}{n_rows} mixtures; --kind {settings.kind} needs {needed} or more for {n_src} sources of each; "
            f"name another --split{other}"
        )
