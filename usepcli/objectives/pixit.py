"""PixIT: MixIT on the audio and PIT on who speaks when, from real recordings (Kalda et al. 2024).

Two recordings x_1, x_2 with known turns make a MoM. With e the outputs for x_1 + x_2, z_n(l) the logit that output n is
active in frame l, and y_k(l) 1 where talker k speaks, 0 where not, and for all l where there is no k-th talker,
    L = w L_MixIT(x_1, x_2; e) + (1 - w) L_PIT,    w = separation_weight, 0.5 in the authors' code
    L_PIT = min_pi 1/N sum_k mean_l [ softplus(z_pi(k)(l)) - y_k(l) z_pi(k)(l) ]
where L_PIT is the mean over the MoMs and over either recording by itself. So each talker has one output, and the
others learn to be silent, which MixIT alone does not teach.

Ours, where the paper has a network with a branch for activity: the logit is read off the output itself,
    z_n(l) = exp(s) D_n(l) / 10 + b,    D_n(l) = 10 log10(E_n(l) / E + f)
with E_n(l) the mean energy of output n in frame l, E that of its whole mixture, f = 10^-6. The two numbers s and b
are the group `head`: learned in a step of their own before the separator's, and no part of the model. Partners in a
batch are chosen so that no talker is in both and all have outputs; where that cannot be, the MoM counts for MixIT
only. A recording by itself with more talkers than outputs is left out of L_PIT, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from usepcli.data import rttm
from usepcli.data.batch import Batch
from usepcli.dsp import assign, ratios
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import MAIN, Objective, Shared, Step, Terms
from usepcli.objectives.dealing import deal
from usepcli.objectives.mixit import shares

HEAD = "head"
_FLOOR = 1e-6  # of the mean energy: 60 dB below it nothing is told apart
_STEEP, _OFFSET = 2.0, 5.0  # at first: as likely active as not at -25 dB
_SILENT = 1e-12


class ActivityHead(nn.Module):
    """Maps levels in dB to logits of activity by two learned numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(_STEEP).log())
        self.offset = nn.Parameter(torch.tensor(_OFFSET))

    def forward(self, level_db: Tensor) -> Tensor:
        """Return the logits of levels of any shape."""
        return self.steepness.exp() * level_db / 10 + self.offset


def levels(est: Tensor, mix: Tensor, rate: int) -> Tensor:
    """Return the level (B, N, L) in dB of outputs (B, N, T) in frames, against the mean energy of mix (B, T)."""
    length = est.shape[-1]
    place = torch.arange(length, device=est.device) * rttm.FRAME_RATE // rate
    n_frames = rttm.count(length, rate)
    energy = est.new_zeros((*est.shape[:-1], n_frames)).index_add(-1, place, est.square())
    size = torch.bincount(place, minlength=n_frames).to(est.dtype)
    mean = mix.square().mean(-1).clamp_min(_SILENT)
    return 10 * (energy / size / mean[:, None, None] + _FLOOR).log10()


class Told(NamedTuple):
    """Outcome of a search: loss (B,), and the share (B,) of frames of all outputs that are told rightly, detached."""

    loss: Tensor
    right: Tensor


def told(logits: Tensor, activity: Tensor) -> Told:
    """Return the cross entropy of logits (B, N, L) for activity (B, N, L) in the best order of the outputs."""
    table = softplus(logits).mean(-1)[:, None] - activity @ logits.mT / logits.shape[-1]  # (B, K, N)
    chosen = assign.permutation(table)
    found = table.gather(-1, chosen[..., None])[..., 0].mean(-1)
    said = (logits.detach() > 0).gather(1, chosen[..., None].expand_as(activity))
    return Told(found, (said == (activity > 0)).float().mean((1, 2)))


def partners(talkers: Sequence[Sequence[str]], n_src: int) -> list[tuple[int, int]]:
    """Return pairs of the recordings of a batch, an even number: the first that suits, and what is left in order.

    Two suit each other where no talker is in both and all talkers together are n_src at most.
    """
    left, pairs, odd = list(range(len(talkers))), list[tuple[int, int]](), list[int]()
    while left:
        one = left.pop(0)
        other = next((k for k in left if suit(talkers[one], talkers[k], n_src)), None)
        if other is None:
            odd.append(one)
        else:
            left.remove(other)
            pairs.append((one, other))
    return pairs + list(zip(odd[::2], odd[1::2], strict=False))


def suit(one: Sequence[str], other: Sequence[str], n_src: int) -> bool:
    """Whether the turns of two recordings can be told of their sum."""
    return not {*one} & {*other} and len(one) + len(other) <= n_src


class Sums(NamedTuple):
    """Recordings (M, 2, T) of M MoMs; what is separated, both and the sums, (3 M, T), who speaks in it, what counts."""

    mixtures: Tensor
    heard: Tensor
    activity: Tensor  # (3 M, N, L)
    counts: Tensor  # (3 M,) 1 where the activity can be told, else 0


class PixIT(Objective):
    """Learns from recordings whose turns are known; no references are read."""

    mixes = "adding recordings up"
    needs = frozenset({"mix", "activity"})

    def __init__(self, model: SeparationModel, loss: Loss, separation_weight: float = 0.5) -> None:
        """separation_weight: w; ConfigError outside of 0 to 1."""
        super().__init__(model, loss)
        if not 0 <= separation_weight <= 1:
            raise ConfigError(f"objective.separation_weight: found {separation_weight}; expected 0 to 1")
        if 2**self.n_src > assign.MAX_MIXIT:
            raise ConfigError(f"model.n_src: found {self.n_src}; objective pixit deals out 16 outputs at most")
        self.separation_weight = separation_weight
        self.head = ActivityHead()

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where the recordings of a batch do not make pairs."""
        super().check(batch_size)
        if batch_size % 2:
            raise ConfigError(f"train.batch_size: found {batch_size}; expected an even number for pairs of recordings")

    def groups(self) -> dict[str, nn.Module]:
        """Return the separator, and the head that tells activity from levels."""
        return {MAIN: self.student, HEAD: self.head}

    def steps(self) -> Sequence[Step]:
        """Return the step of the head, then that of the separator."""
        return Step(HEAD, self._telling), Step(MAIN, self._separating)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return both weighted terms of the separator's step; BadInput where turns are not known."""
        return dict(self._separating(batch, Shared(graphs=True)).losses)

    def _telling(self, batch: Batch, shared: Shared) -> Terms:
        sums = self._sums(batch)
        est = shared.detached("est", lambda: self.student(sums.heard))
        return Terms({"head": self._pit(sums, est)[0]}, {"steepness": self.head.steepness.detach().exp()})

    def _separating(self, batch: Batch, shared: Shared) -> Terms:
        sums = self._sums(batch)
        est = shared.attached("est", lambda: self.student(sums.heard))
        pit, right = self._pit(sums, est)
        n_mom = len(sums.mixtures)
        mom = sums.heard[-n_mom:]
        dealt = deal(self.loss, est[-n_mom:], sums.mixtures, mom)
        sounding = ratios.energy(mom) > 0
        loudest = dealt.energy.amax(-1) / dealt.energy.sum(-1).clamp_min(1e-30)
        logs = {
            "snr_db": dealt.snr_db[dealt.active].mean(), "loudest_share": loudest[sounding].mean(),
            "frames_right": right, "told_share": sums.counts.mean(),
        }  # fmt: skip
        w = self.separation_weight
        return Terms({"mixit": w * (dealt.loss * shares(mom)).sum(), "activity": (1 - w) * pit}, logs)

    def _pit(self, sums: Sums, est: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross entropy over what counts, and the share of frames told rightly."""
        with torch.autocast(est.device.type, enabled=False):
            logits = self.head(levels(est.float(), sums.heard.float(), self.student.sample_rate))
            found = told(logits, sums.activity)
            weight = sums.counts / sums.counts.sum().clamp_min(1)
            return (found.loss * weight).sum(), (found.right * weight).sum()

    def _sums(self, batch: Batch) -> Sums:
        activity = batch.activity
        if activity is None or len(batch.talkers) != len(batch):
            raise BadInput(
                "objective pixit: nothing says who speaks when; use a manifest whose column 'activity' names RTTM files"
            )
        if len(batch) < 2:
            raise BadInput(f"objective pixit: a batch of {len(batch)} recordings; expected at least 2")
        pairs = partners(batch.talkers, self.n_src)
        one, other = ([pair[k] for pair in pairs] for k in (0, 1))
        alone = [len(batch.talkers[k]) <= self.n_src for k in (*one, *other)]
        both = [suit(batch.talkers[i], batch.talkers[j], self.n_src) for i, j in pairs]
        mixtures = torch.stack([batch.mix[one], batch.mix[other]], 1)  # (M, 2, T)
        heard = torch.cat([*mixtures.unbind(1), mixtures.sum(1)])
        lines = [activity[k, : len(batch.talkers[k])] for k in range(len(batch))]
        told_of = [lines[k] for k in (*one, *other)] + [torch.cat([lines[i], lines[j]]) for i, j in pairs]
        fitted = [pad(each[: self.n_src], (0, 0, 0, max(0, self.n_src - len(each)))) for each in told_of]
        counts = torch.tensor([*alone, *both], dtype=torch.float32, device=heard.device)
        return Sums(mixtures, heard, torch.stack(fitted).to(heard.device, torch.float32), counts)
