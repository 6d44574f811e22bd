"""Which output is scored against which reference: as the model has it, anew for an utterance, or anew for every frame.

A separator that confuses talkers half-way has separated them all the same. The optimal assignment of Kolbaek et al.
2017, one for every frame, shows what it separates; the default one what a listener gets; between them lies what is
lost in tracing. Scores under different assignments are never compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli.dsp import oracle
from usepcli.engine.scoring import channels
from usepcli.errors import BadInput, UsageError, choices

if TYPE_CHECKING:
    from usepcli.engine.scoring.scoring import Signals

DEFAULT, UTTERANCE, FRAME = "default", "utterance", "frame"
KINDS = (DEFAULT, UTTERANCE, FRAME)
COLUMN = "assign"
SYSTEM = f"{COLUMN} {DEFAULT}"  # the system of the rows that stand beside
FRAME_S = 0.032  # by default, every half of it
MEANT = {
    UTTERANCE: "the permutation of a whole item with the best mean SI-SNR, also of outputs that were asked for by name",
    FRAME: "optimal: in every frame the permutation with the least squared error of the spectra, brought to where they "
    "add up to the mixture; the frames so assigned are overlapped and added, then scored (Kolbaek et al. 2017)",
}


@dataclass(frozen=True)
class Assign:
    """One of KINDS; frames of `window` samples every `hop`, 0 for FRAME_S at whatever rate."""

    kind: str = DEFAULT
    window: int = 0
    hop: int = 0

    def meaning(self) -> str:
        """Return in words what is assigned how; '' for what the model itself, and usep by default, do."""
        if self.kind != FRAME:
            return MEANT.get(self.kind, "")
        sizes = f"{self.window}/{self.hop} samples" if self.window else f"{1000 * FRAME_S:g}/{500 * FRAME_S:g} ms"
        return f"{MEANT[FRAME]}; window and hop {sizes} (Hann)"

    def sizes(self, rate: int | None) -> tuple[int, int]:
        """Return window and hop in samples at a rate in Hz."""
        if not self.window and not rate:
            raise BadInput("no sample rate, so frames have no length; give --stft WINDOW/HOP")
        hop = max(1, round(FRAME_S / 2 * (rate or 0)))
        return (self.window, self.hop) if self.window else (2 * hop, hop)

    def posed(self, signals: Signals) -> Signals:
        """Return an item whose estimates stand in the order of its references, so assigned."""
        if self.kind == DEFAULT:
            return signals
        if self.kind == UTTERANCE:
            return signals._replace(ordered=False)
        return _traced(signals, *self.sizes(signals.rate))


def asked(kind: str, stft: str, sets: Sequence[str], options: Mapping[str, Any]) -> Assign | None:
    """Return the assignment asked for, None where none is; UsageError for one that is unknown or does not fit.

    sets: metrics of whole sets that are asked for; options: of the command, by name.
    """
    if not kind:
        return None
    if kind not in KINDS:
        raise UsageError(choices("assignment for --assign", kind, KINDS))
    if name := options["protocol"]:
        raise UsageError(f"--protocol {name} says how outputs are assigned: leave --assign away, or score without it")
    alone = [f"--metric {name}" for name in sets]
    alone += ["--kaldi-export"] * bool(options["kaldi_export"])
    if alone:
        raise UsageError(f"{alone[0]} takes outputs as the model gives them: leave --assign away, or {alone[0]}")
    return Assign(kind, *oracle.sizes(stft)) if kind == FRAME and stft else Assign(kind)


def _traced(signals: Signals, size: int, hop: int) -> Signals:
    from usepcli.dsp import tracing
    from usepcli.metrics.align import permutation

    est, ref = channels.split(signals.est), channels.split(signals.ref)
    mix = None if signals.mix is None else channels.split(np.asarray(signals.mix)[None])[0]
    length = min(wave.shape[-1] for wave in (est, ref, *([] if mix is None else [mix])))
    est, ref = est[..., :length], ref[..., :length]
    active = np.flatnonzero(channels.sounding(ref).any(1))
    if not len(active) or len(est) < len(active) or est.shape[1] != ref.shape[1]:
        return signals._replace(ordered=False)  # whoever scores it says why that cannot be
    # Where frames are silent, or outputs the same, what is best for the whole comes first.
    best = permutation(est, ref[active])
    est = est[[*best, *sorted(set(range(len(est))) - set(best.tolist()))]]
    gains = tracing.levels(est, ref.sum(0) if mix is None else mix[..., :length])
    found = np.zeros_like(ref)
    found[active] = tracing.traced(gains[:, None, None] * est, ref[active], size, hop)
    return signals._replace(est=found[:, 0] if np.ndim(signals.ref) == 2 else found, ordered=True)


def label(rows: list[dict[str, Any]], assign: Assign | None) -> list[dict[str, Any]]:
    """Return rows of an item that say how outputs were assigned, where that was asked for."""
    if assign is None:
        return rows
    return [{**row, COLUMN: DEFAULT if row.get("system") == SYSTEM else assign.kind} for row in rows]


def refuse_unlike(ours: Mapping[str, Any], theirs: Mapping[str, Any], place: Path) -> None:
    """BadInput where two evaluations, by their conventions, assigned outputs differently."""
    here, there = (str(of.get(COLUMN) or DEFAULT) for of in (ours, theirs))
    if here != there:
        raise BadInput(
            f"{place}: outputs were assigned by --assign {there}, here by {here}: no comparison means anything; "
            "score one of them again by the other's"
        )
    if here == FRAME and ours.get("assignment") != theirs.get("assignment"):
        raise BadInput(f"{place}: --assign frame had other frames than here; score both with the same --stft")
