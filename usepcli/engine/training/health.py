"""How training goes, seen in mixtures alone: no source is opened.

With p_n the power of output n for a mixture of power p, averaged over mixtures:
    loudest_share       max_n p_n / sum_n p_n                          1: one output holds everything, nothing separated
    activity_entropy    - sum_n q_n log q_n / log N, q_n = p_n / sum   0: one output has all, 1: evenly spread
    silent_share        share of outputs with p_n < p / 1000           30 dB below the mixture: under-separation
    teacher_agreement   SI-SNR in dB between the outputs of student and teacher in the best order
(the trivial solution and under-separation: Saijo & Ogawa 2023, sections 2.4 and 3.6).  MoMi: scoring/momi.py.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from usepcli import registry
from usepcli.data.items import Reader
from usepcli.data.manifest import Manifest
from usepcli.dsp import decibels, ratios
from usepcli.dsp.consistency import project
from usepcli.engine import tables
from usepcli.engine.scoring import momi
from usepcli.errors import BadInput, choices
from usepcli.metrics.align import permutation
from usepcli.models.queried import Model
from usepcli.models.separator import SeparationModel
from usepcli.profile.schema import BLIND, JUDGED
from usepcli.report import stats

SILENT_DB = 30.0
TRIVIAL_SHARE = 0.95
# Means of so many validations running are compared, and MoMi has to have fallen by this from the highest of them:
# single ones of healthy runs differ by some tenths.
WINDOW = 3
FALL_DB = 0.5
# Equal outputs agree to this many dB; without a bound one such mixture would outweigh all others.
AGREEMENT_MAX_DB = 60.0


class Overheard:
    """The powers of the outputs for every mixture that a model separates in this context, so that none is done twice.

    Of models by query nothing is kept: their outputs hang by more than the mixture.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._powers: dict[bytes, Tensor] = {}

    def __enter__(self) -> Overheard:
        hears = isinstance(self.model, SeparationModel)
        self._hook = self.model.register_forward_hook(self._hear) if hears else None
        return self

    def __exit__(self, *error: object) -> None:
        if self._hook:
            self._hook.remove()

    def _hear(self, model: Any, given: tuple[Any, ...], est: Tensor) -> None:
        del model
        if given[0].ndim == 2 and est.ndim == 3:
            for wave, power in zip(given[0].cpu(), ratios.energy(est.double()).cpu(), strict=True):
                self._powers[_digest(wave)] = power

    def powers(self, mix: Tensor) -> Tensor | None:
        """Return the powers (B, N) of the outputs for mix (B, T), None where one of them was not heard."""
        known = [self._powers.get(_digest(wave)) for wave in mix]
        heard = [power for power in known if power is not None]
        return torch.stack(heard) if len(heard) == len(known) else None


def _digest(wave: Tensor) -> bytes:
    return hashlib.blake2b(wave.contiguous().numpy().tobytes(), digest_size=16).digest()


def from_mixtures(
    model: Model,
    manifest: Manifest,
    *,
    teacher: Model | None = None,
    overheard: Overheard | None = None,
    device: str | torch.device = "cpu",
    seconds: float = 0,
    channels: str = "mix",
) -> dict[str, float]:
    """Return the figures above over the mixtures of a manifest, each cut to `seconds` (0: whole).

    channels: what is heard of several, "mix" or "first".
    Models with one output have none of a share; teacher_agreement is there with a teacher.  What cannot be read is left
    out.  overheard: of mixtures that the model separated meanwhile; without a teacher they are not separated again.
    """
    found: dict[str, list[float]] = {}
    reader = Reader(manifest, model.sample_rate, seconds, channels=channels)
    heard = momi.heard(reader, model, manifest.rows)
    for batch in momi.batches(heard, model.sample_rate, device):
        mix = torch.from_numpy(np.stack([one.wave for one in batch]))
        power = overheard.powers(mix) if overheard and teacher is None else None
        if power is None:
            est = momi.separate(model, mix, device, batch[0].queries)
            power = ratios.energy(est.double())
        figures = shares(power, mix) if power.shape[1] > 1 else {}
        if teacher is not None:
            taught = project(momi.separate(teacher, mix, device, batch[0].queries), mix)
            pairs = zip(est.numpy(), taught.numpy(), strict=True)
            figures["teacher_agreement"] = [agreement(a, b) for a, b in pairs]
        for name, values in figures.items():
            found.setdefault(name, []).extend(values)
    return {name: _mean(values) for name, values in found.items()}


def shares(power: Tensor, mix: Tensor) -> dict[str, list[float]]:
    """Return per mixture of mix (B, T) the shares of outputs of powers (B, N), N > 1; nan where a power is zero."""
    whole = ratios.energy(mix.double())[:, None]  # (B, 1)
    part = power / power.sum(-1, keepdim=True)
    entropy = -torch.xlogy(part, part).sum(-1) / math.log(power.shape[1])
    silent = (power < whole * 10 ** (-SILENT_DB / 10)).double().mean(-1)
    silent = torch.where(whole[:, 0] > 0, silent, float("nan"))
    return {
        "loudest_share": part.amax(-1).tolist(),
        "activity_entropy": entropy.tolist(),
        "silent_share": silent.tolist(),
    }


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean SI-SNR in dB of outputs a (N, T) and b (M, T) in the best order; either may be the reference.

    Outputs of the smaller set that lie SILENT_DB below the whole set stay out; nan where all do.
    """
    few, many = sorted((np.asarray(a, np.float64), np.asarray(b, np.float64)), key=len)
    power = np.einsum("nt,nt->n", few, few)
    few = few[power > power.sum() * 10 ** (-SILENT_DB / 10)]
    if not len(few):
        return math.nan
    bound = 10 ** (-AGREEMENT_MAX_DB / 10)
    return float(decibels.si_snr_db(many[permutation(many, few)], few, bound).mean())


def likeness_to_input(
    model: Model,
    manifest: Manifest,
    *,
    device: str | torch.device = "cpu",
    seconds: float = 0,
    channels: str = "mix",
) -> float:
    """Return the mean SI-SNR in dB of a model's mixture-consistent outputs against the mixture itself.

    An untrained network that hardly alters its input teaches usable sources from the start (Saijo & Ogawa 2023,
    section 2.3, find 18.4 dB for their Conformer).
    """
    values: list[float] = []
    reader = Reader(manifest, model.sample_rate, seconds, channels=channels)
    heard = momi.heard(reader, model, manifest.rows)
    for batch in momi.batches(heard, model.sample_rate, device):
        mix = torch.from_numpy(np.stack([one.wave for one in batch]))
        est = project(momi.separate(model, mix, device, batch[0].queries), mix).double().numpy()
        whole = np.broadcast_to(mix.double().numpy()[:, None], est.shape)
        found = decibels.si_snr_db(est, whole, 10 ** (-AGREEMENT_MAX_DB / 10))  # (B, N)
        values.extend(np.where(whole.any(-1), found, np.nan).mean(-1).tolist())
    return _mean(values)


def said(figures: Mapping[str, float]) -> str:
    """Return the shares and the agreement in words; '' where there are none."""
    words = []
    if "loudest_share" in figures:
        words.append(f"the loudest output holds {100 * figures['loudest_share']:.0f} % of the power")
        words[0] += f" (evenness {figures['activity_entropy']:.2f}, 1 where all are equally loud)"
        words.append(
            f"{100 * figures['silent_share']:.0f} % of the outputs are silent ({SILENT_DB:.0f} dB below the mixture)"
        )
    if "teacher_agreement" in figures:
        words.append(f"student and teacher agree to {figures['teacher_agreement']:.1f} dB")
    return ", ".join(words)


def warnings(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what the rows of valid.csv, the latest last, give reason to warn of."""
    lines = []
    loud = _last(rows, "loudest_share", 2)
    if len(loud) == 2 and min(loud) > TRIVIAL_SHARE:
        lines.append(
            f"warning: one output held {100 * loud[0]:.0f} and {100 * loud[1]:.0f} % of the power at two validations "
            "running: the mixture goes through whole, the trivial solution; shuffle channels or start anew"
        )
    silent, score = _last(rows, "silent_share", 3), _last(rows, "momi", 3)
    if len(silent) == len(score) == 3 and silent[0] < silent[1] < silent[2] and score[0] > score[1] > score[2]:
        trend = ", ".join(f"{100 * value:.0f}" for value in silent)
        lines.append(
            f"warning: more and more outputs fall silent ({trend} %) while momi falls "
            f"({', '.join(f'{value:.2f}' for value in score)} dB): under-separation; earlier weights did better"
        )
    return lines


def collapse(rows: Sequence[Mapping[str, str]], trained: Mapping[str, np.ndarray]) -> list[str]:
    """Return a warning where MoMi falls while the training loss improves: rows of valid.csv, columns of train.csv.

    What is learned then gets easier without being better separated: student and teacher agree on passing the mixture
    through, or a small set is learned by heart. Means of WINDOW validations are compared, with the training losses on
    the way to each of them.
    """
    found = [(int(row["step"]), _number(row.get("momi"))) for row in rows]
    seen = [(step, value, loss) for (step, value), loss in zip(found, _losses(found, trained), strict=True)]
    seen = [one for one in seen if math.isfinite(one[1]) and math.isfinite(one[2])]
    means = [
        (seen[end - 1][0], *(math.fsum(one[k] for one in seen[end - WINDOW : end]) / WINDOW for k in (1, 2)))
        for end in range(WINDOW, len(seen) + 1)
    ]
    if not means:
        return []
    top, last = max(means, key=lambda mean: mean[1]), means[-1]
    if not (top[1] - last[1] > FALL_DB and last[2] < top[2]):
        return []
    slower = "a slower teacher (objective.teacher_half_life_updates) or " if rows[-1].get("teacher_agreement") else ""
    return [
        f"warning: momi falls ({top[1]:.2f} dB at step {top[0]}, {last[1]:.2f} at {last[0]}, means of {WINDOW} "
        f"validations) while the loss improves ({top[2]:.2f}, {last[2]:.2f}): what is learned gets easier, not better "
        f"separated; {slower}more data may help, longer training will not"
    ]


def _losses(found: Sequence[tuple[int, float]], trained: Mapping[str, np.ndarray]) -> list[float]:
    """Return the mean training loss between each validation and the one before; nan where none was logged."""
    none = np.zeros(0)
    steps, losses = trained.get("step", none), trained.get("loss", none)  # steps rise: a log is added to
    places = np.searchsorted(steps, [0, *(step for step, _ in found)], side="right")
    return [_mean(losses[begin:end].tolist()) for begin, end in pairwise(places)]


def picks(valid_csv: str | Path, metric: str, truth: str) -> dict[str, Any]:
    """Return how well `metric`, a column of valid.csv, stands for `truth`, another one, over the validations.

    Pearson and Spearman; the truth at the validation that metric picks beside the best and the last one, and what
    the pick costs.  Validations without either value are left out; BadInput where none is left.
    """
    rows = tables.read_csv(valid_csv)
    for name in (metric, truth):
        if rows and name not in rows[0]:
            raise BadInput(f"{valid_csv}: {choices('column', name, rows[0])}")
    values = [(int(row["step"]), _number(row[metric]), _number(row[truth])) for row in rows]
    values = [value for value in values if math.isfinite(value[1]) and math.isfinite(value[2])]
    if not values:
        raise BadInput(f"{valid_csv}: no validation with both {metric} and {truth}")
    sign = 1.0 if higher_is_better(truth) else -1.0
    # Of equal scores the later one, as BestStates keeps it.
    picked = max(values, key=lambda v: (v[1] if higher_is_better(metric) else -v[1], v[0]))
    best = max(values, key=lambda v: (sign * v[2], v[0]))
    together = stats.correlation([v[1] for v in values], [v[2] for v in values])
    return {
        "metric": metric,
        "truth": truth,
        **together._asdict(),
        "picked_step": picked[0],
        "picked": picked[2],
        "best_step": best[0],
        "best": best[2],
        "last_step": values[-1][0],
        "last": values[-1][2],
        "lost": sign * (best[2] - picked[2]),
    }


def higher_is_better(name: str) -> bool:
    """Return the direction of a score of mixtures alone or of a registered metric; ConfigError if unknown."""
    if name in BLIND or name in JUDGED:
        return (BLIND | JUDGED)[name]
    return bool(registry.load("metric", name).higher_is_better)


def _last(rows: Sequence[Mapping[str, str]], name: str, n: int) -> list[float]:
    """Return the last n finite values of a column, fewer where one of the last n rows has none."""
    return [value for value in (_number(row.get(name)) for row in rows[-n:]) if math.isfinite(value)]


def _number(text: str | None) -> float:
    return float(text) if text else math.nan


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan
