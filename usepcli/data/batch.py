"""One batch of training examples, and how single examples become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from usepcli.data.manifest import Phrase


class Unusable(NamedTuple):
    """An item in whose place another was drawn, and why: the reason may differ from one time to the next."""

    item: str
    reason: str


@dataclass
class Example:
    """One mixture (T,) with its references (K, T), or None where only mixtures exist, and what is known in words.

    queries: of the sources, in their order, or none; other words as in a manifest's row.  incomplete: phrases of the
    caption were left out, so that no sum of what they name is the mixture.  files: what the mixture was read from.
    activity: (talkers, frames) 1 where a talker of `talkers` speaks, at rttm.FRAME_RATE; None where nobody asked.
    """

    id: str
    mix: np.ndarray
    sources: np.ndarray | None = None
    text: str = ""
    bad_files: tuple[Unusable, ...] = ()
    queries: tuple[str, ...] = ()
    caption: str = ""
    phrases: tuple[Phrase, ...] = ()
    label: str = ""
    incomplete: bool = False
    files: tuple[str, ...] = ()
    activity: np.ndarray | None = None
    talkers: tuple[str, ...] = ()


@dataclass
class Batch:
    """Mixtures (B, T) and, where known, zero-padded references (B, K, T); lists have one entry for each mixture.

    queries[b] has as many entries as mixture b has sources of its own, which may be fewer than K, or none.
    incomplete and files are as in an example.  Where the sources of some alone are known, `known` says of which; those
    of the others are zeros.  It is empty where all are known, or none.  activity: (B, A, frames), zero-padded, of
    the `talkers` of each.
    """

    mix: Tensor
    sources: Tensor | None
    ids: list[str]
    text: list[str] = field(default_factory=list)
    bad_files: list[Unusable] = field(default_factory=list)
    queries: list[tuple[str, ...]] = field(default_factory=list)
    caption: list[str] = field(default_factory=list)
    phrases: list[tuple[Phrase, ...]] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    incomplete: list[bool] = field(default_factory=list)
    files: list[tuple[str, ...]] = field(default_factory=list)
    known: list[bool] = field(default_factory=list)
    talkers: list[tuple[str, ...]] = field(default_factory=list)
    activity: Tensor | None = None

    def some(self, which: Sequence[int]) -> Batch:
        """Return the batch of these mixtures, without the sources if those of one of them are unknown."""
        lists = {
            each.name: getattr(self, each.name)
            for each in fields(self)[2:]
            if each.name not in ("bad_files", "activity")
        }
        chosen = {name: [value[k] for k in which] for name, value in lists.items() if value}
        whole = self.sources is not None and (not self.known or all(self.known[k] for k in which))
        sources = self.sources[[*which]] if self.sources is not None and whole else None
        chosen |= {"bad_files": [], "known": []}
        activity = None if self.activity is None else self.activity[[*which]]
        return replace(self, mix=self.mix[[*which]], sources=sources, activity=activity, **chosen)

    def to(self, device: torch.device) -> Batch:
        """Return the same batch with its tensors on `device`."""
        known = {"mix": self.mix, "sources": self.sources, "activity": self.activity}
        there = {name: each.to(device, non_blocking=True) for name, each in known.items() if each is not None}
        return replace(self, **there)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.ids)


def collate(examples: list[Example]) -> Batch:
    """Stack examples; lengths and numbers of references are zero-padded to the largest of the batch."""
    length = max(len(e.mix) for e in examples)
    mix = np.zeros((len(examples), length), np.float32)
    for row, example in zip(mix, examples, strict=True):
        row[: len(example.mix)] = example.mix
    known = [e.sources is not None for e in examples]
    sources = None
    if any(known):
        n_refs = max(e.sources.shape[0] for e in examples if e.sources is not None)
        sources = np.zeros((len(examples), n_refs, length), np.float32)
        for block, example in zip(sources, examples, strict=True):
            if example.sources is not None:
                block[: example.sources.shape[0], : example.sources.shape[1]] = example.sources
    return Batch(
        torch.from_numpy(mix),
        None if sources is None else torch.from_numpy(sources),
        [e.id for e in examples],
        [e.text for e in examples],
        [bad for e in examples for bad in e.bad_files],
        [e.queries for e in examples],
        [e.caption for e in examples],
        [e.phrases for e in examples],
        [e.label for e in examples],
        [e.incomplete for e in examples],
        [e.files for e in examples],
        [] if all(known) or not any(known) else known,
        [e.talkers for e in examples],
        _activity([e.activity for e in examples if e.activity is not None]),
    )


def _activity(found: list[np.ndarray]) -> Tensor | None:
    if not found:
        return None
    n_talkers, frames = (max(each.shape[axis] for each in found) for axis in (0, 1))
    padded = [np.pad(each, ((0, n_talkers - each.shape[0]), (0, frames - each.shape[1]))) for each in found]
    return torch.from_numpy(np.stack(padded))
