"""Sounds and words in one space from labelled sources: each finds the other among those of the batch.

    x_m = g (s_m + 10^(-r / 20) s_j |s_m| / |s_j| + n)
    P_m = (1 - w) e(q_m) + w e(q_j),  w = 1 / (1 + 10^(r / 10))
    L = ( H(P, softmax_q(s cos(hear(x_m), read(q)))) + H(P', softmax_m(...)) ) / 2

with H the cross-entropy, P' the shares of a phrase over the sounds, and q over the different phrases of the batch. A
sound that holds another one (the share `mixed` does, r dB below it) is to be as much of each as its energy says, so
that a source comes to fit its phrase better than the mixture does; gain g and noise n say nothing of what sounds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp import ratios
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.base import Loss
from usepcli.models.audio_text import AudioText
from usepcli.models.queried import QueriedModel
from usepcli.objectives.asking import Asking, check_share

_SILENT = 1e-10  # mean square


class Contrastive(Asking):
    """Trains a model that hears and reads; it separates nothing, so that the loss of waveforms is not used."""

    needs = frozenset({"mix", "sources", "queries"})
    mixes = "tells their sources apart"

    def __init__(
        self,
        model: QueriedModel,
        loss: Loss,
        mixed: float = 0.5,
        below_db: tuple[float, float] = (0.0, 20.0),
        gain_db: float = 12.0,
        noisy: float = 0.3,
        noise_below_db: tuple[float, float] = (5.0, 30.0),
    ) -> None:
        """Say which shares of the sounds hold another one, or noise, how far below, and by how much levels vary."""
        super().__init__(model, loss)
        if not isinstance(model, AudioText):
            raise ConfigError(
                "objective.name: contrastive trains a model that hears and reads; set model.name: audio_text"
            )
        for key, share in (("mixed", mixed), ("noisy", noisy)):
            check_share(key, share)
        for key, (low, high) in (("below_db", below_db), ("noise_below_db", noise_below_db)):
            if not -60 <= low <= high <= 120:
                raise ConfigError(
                    f"objective.{key}: found [{low:g}, {high:g}]; expected two numbers, the lower one first"
                )
        if not 0 <= gain_db <= 60:
            raise ConfigError(f"objective.gain_db: found {gain_db:g}; expected 0 to 60")
        self.listener = model
        self.mixed, self.below_db, self.gain_db = mixed, below_db, gain_db
        self.noisy, self.noise_below_db = noisy, noise_below_db

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the term; BadInput where queries and sources are not as many, and 0 where fewer than two sound."""
        sounds, asked = sources(batch)
        phrases = list(dict.fromkeys(asked))
        if len(phrases) < 2:
            return {"contrastive": self.nothing()}
        own = torch.tensor([phrases.index(query) for query in asked], device=sounds.device)
        heard, shares = self._disturbed(sounds, own, len(phrases))
        logits = self.listener.scale * self.listener.hear(heard) @ self.listener.read(phrases).T  # (M, U)
        self.step_logs["told_apart"] = logits.detach().argmax(1).eq(shares.argmax(1)).float().mean()
        self.step_logs["scale"] = self.listener.scale.detach()
        return {"contrastive": told_by_shares(logits, shares)}

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where a sound would meet no other."""
        super().check(batch_size)
        if batch_size < 2:
            raise ConfigError(
                f"train.batch_size: found {batch_size}, and contrastive tells the sources of a batch apart; expected "
                "2 or more"
            )

    def _disturbed(self, sounds: Tensor, own: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return sounds (M, T) with others, noise and gains, and how much each phrase is in them (M, count)."""
        total = len(sounds)
        other = torch.randperm(total, generator=self.rng).to(sounds.device)
        mixed = self._chosen(total, self.mixed, sounds) & (own[other] != own)
        level = ratios.energy(sounds).sqrt()  # (M,)
        below = self._between(total, self.below_db, sounds)
        ratio = mixed * 10 ** (-below / 20) * level / level[other]
        weight = mixed / (1 + 10 ** (below / 10))
        shares = F.one_hot(own, count).to(sounds) * (1 - weight)[:, None]
        shares = shares + F.one_hot(own[other], count).to(sounds) * weight[:, None]
        heard = sounds + ratio[:, None] * sounds[other]
        noise = torch.randn(sounds.shape, generator=self.rng).to(sounds)
        under = self._between(total, self.noise_below_db, sounds)
        amount = self._chosen(total, self.noisy, sounds) * 10 ** (-under / 20) * level / ratios.energy(noise).sqrt()
        gain = self._between(total, (-self.gain_db, self.gain_db), sounds)
        return (heard + amount[:, None] * noise) * (10 ** (gain / 20))[:, None], shares

    def _chosen(self, total: int, share: float, like: Tensor) -> Tensor:
        return (torch.rand(total, generator=self.rng) < share).to(like.device)

    def _between(self, total: int, ends: tuple[float, float], like: Tensor) -> Tensor:
        return (ends[0] + (ends[1] - ends[0]) * torch.rand(total, generator=self.rng)).to(like)


def sources(batch: Batch) -> tuple[Tensor, list[str]]:
    """Return the sources (M, T) of a batch that sound, and the query of each; BadInput where they are not as many."""
    assert batch.sources is not None
    waves, asked = [], []
    for k, queries in enumerate(batch.queries):
        if not queries or len(queries) > batch.sources.shape[1]:
            raise BadInput(f"{batch.ids[k]}: {len(queries)} queries for its sources; see `usep prepare-data --check`")
        for wave, query in zip(batch.sources[k], queries, strict=False):
            if wave.square().mean() > _SILENT:
                waves.append(wave)
                asked.append(query)
    return (torch.stack(waves) if waves else batch.mix[:0]), asked


def told_by_shares(logits: Tensor, shares: Tensor) -> Tensor:
    """Return the term of logits (M, U) of M sounds and U phrases, of which shares (M, U) say how much is in each."""
    sounds = -(shares * F.log_softmax(logits, 1)).sum(1).mean()
    mine = shares.T[shares.sum(0) > 0]
    words = -(mine / mine.sum(1, keepdim=True) * F.log_softmax(logits.T[shares.sum(0) > 0], 1)).sum(1).mean()
    return (sounds + words) / 2
