"""RemixIT and Self-Remixing: a teacher's outputs are shuffled into pseudo-mixtures that the student separates.

With the teacher's estimates q of mixtures x (B, T), consistent with x, and the shuffle Pi:
    q'[b, n] = q[Pi[n, b], n],   x'[b] = sum_n q'[b, n],   y = student(x'),   y' = y in the order that fits q' best
    RemixIT         L = mean_b 1/R sum_n l(q'[b, n], y'[b, n])                                     (equation 3)
    Self-Remixing   L = mean_b l(x[b], sum_n z[b, n])   with   z[Pi[n, b], n] = y'[b, n]           (equation 5)
of Saijo & Ogawa 2023, who train from scratch; RemixIT is by Tzinis et al. 2022, Self-Remixing by Saijo & Ogawa 2022
(arXiv:2211.10194). No clean source takes part.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp import ratios, shuffle
from usepcli.dsp.consistency import loudest, strongest
from usepcli.dsp.shuffle import Shuffle
from usepcli.errors import BadInput, ConfigError, choices
from usepcli.losses.base import Loss
from usepcli.models.fixed import Fixed
from usepcli.models.separator import SeparationModel
from usepcli.objectives import supervised
from usepcli.objectives.base import Objective
from usepcli.objectives.pit import Matched, match, mean_snr_db, references, snr_db, take
from usepcli.objectives.teacher import EMA, FAST, Init, Protocol, Teacher

Roles = Literal["permuted", "fixed"]


class Remixed(NamedTuple):
    """One shuffle: the sources that went in, what came out, and the way back."""

    mix: Tensor  # (B, T) mixtures at the level at which the sources were found
    sources: Tensor  # (B, R, T) shuffled pseudo-references
    pseudo: Tensor  # (B, T) their sums
    order: Tensor  # (R, B)


class Remixing(Objective):
    """Shuffles sources over a batch and lets the student separate the sums; subclasses say where sources come from."""

    mixes = "remixing"

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        shuffle_kind: str,
        channel_shuffle: bool,
        n_remix: int,
        roles: str,
        shuffled: list[int] | None,
        renormalize: bool,
        supervised_fraction: float,
        residual: bool,
    ) -> None:
        """Check and keep the settings; ConfigError with the dotted key where they do not fit the model."""
        super().__init__(model, loss)
        self.n_remix = n_remix or self.n_src
        if not 1 < self.n_remix <= self.n_src:
            raise ConfigError(
                f"objective.n_remix: found {n_remix} with model.n_src {self.n_src}; expected 0, or 2 to model.n_src"
            )
        shuffle.check(shuffle_kind, self.n_remix, self.n_remix)
        if roles not in ("permuted", "fixed"):
            raise ConfigError(f"objective.roles: {choices('role', roles, ('permuted', 'fixed'))}")
        if roles == "fixed" and (channel_shuffle or self.n_remix != self.n_src):
            raise ConfigError(
                "objective.roles: 'fixed' gives every output one meaning; set objective.channel_shuffle to false "
                "and objective.n_remix to 0"
            )
        self.shuffled = sorted(set(shuffled or range(self.n_remix)))
        if not set(self.shuffled) <= set(range(self.n_remix)):
            raise ConfigError(f"objective.shuffled: found {shuffled}; expected outputs from 0 to {self.n_remix - 1}")
        if not 0 <= supervised_fraction < 1:
            raise ConfigError(
                f"objective.supervised_fraction: found {supervised_fraction}; expected a share from 0 up to 1, "
                "sup_remixit and sup_self_remixing learn from references alone"
            )
        self.shuffle_kind, self.channel_shuffle, self.roles = shuffle_kind, channel_shuffle, roles
        self.renormalize, self.supervised_fraction, self.residual = renormalize, supervised_fraction, residual
        if supervised_fraction > 0:
            self.needs = frozenset({"mix", "sources"})

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where batch_size leaves too few mixtures for the shuffle or for the supervised share."""
        super().check(batch_size)
        n_sup = supervised.most(self.supervised_fraction, batch_size, self.place.parts)
        if n_sup and batch_size - n_sup < 2:
            raise ConfigError(
                f"objective.supervised_fraction: {self.supervised_fraction} leaves {batch_size - n_sup} of "
                f"{batch_size} mixtures of a micro-batch to shuffle, expected 2; lower it, or raise "
                "train.batch_size"
            )
        # Outputs that stay where they are count too: all outputs of one pseudo-mixture shall differ in origin.
        shuffle.check(self.shuffle_kind, batch_size - n_sup, len(self.shuffled) + (len(self.shuffled) < self.n_remix))

    def sources(self, mix: Tensor, refs: Tensor | None, raw: Tensor) -> Tensor:
        """Return the sources (B, R, T) of mix (B, T) that are to be shuffled; raw: mix before its level was changed.

        Subclasses implement this.
        """
        raise NotImplementedError

    def criterion(self, remixed: Remixed, est: Tensor, found: Matched) -> dict[str, Tensor]:
        """Return the weighted terms; est (B, R, T) is in the order of remixed.sources."""
        raise NotImplementedError

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB of one shuffle of the batch."""
        mix, refs = self._level(batch)
        n_sup = supervised.count(self.supervised_fraction, len(mix), self.place)
        self.step_logs = {}
        remixed = self.remix(mix[n_sup:], None if refs is None else refs[n_sup:], batch.mix[n_sup:])
        terms = {k: v * (1 - n_sup / len(mix)) for k, v in self._unsupervised(remixed).items()}
        if self.supervised_fraction > 0:
            terms["supervised"], self.step_logs["supervised_snr_db"] = mix.new_zeros(()), math.nan
        if n_sup and refs is not None:
            found = match(self.loss, self._student(mix[:n_sup]), refs[:n_sup], mix[:n_sup])
            terms["supervised"] = found.loss.mean() * (n_sup / len(mix))
            self.step_logs["supervised_snr_db"] = mean_snr_db(found)
        return terms

    def _unsupervised(self, remixed: Remixed) -> dict[str, Tensor]:
        # Where fewer sources are remixed than the student has outputs, its strongest ones answer for them: nothing asks
        # the others to be silent (as in the authors' released code).
        est = loudest(self._separate(remixed.pseudo), self.n_remix)
        found = self.pair(est, remixed)
        ordered = take(est, found.chosen)
        self.step_logs["snr_db"] = mean_snr_db(found)
        # Shuffled back: pseudo-mixtures hold several loud outputs even where every mixture went through whole.
        power = shuffle.restore(ratios.energy(remixed.sources.detach())[..., None], remixed.order)[..., 0]  # (B, R)
        sounding = power.sum(-1) > 0
        self.step_logs["loudest_share"] = (power.amax(-1) / power.sum(-1))[sounding].mean()
        return self.criterion(remixed, ordered, found)

    def pair(self, est: Tensor, remixed: Remixed) -> Matched:
        """Return which estimate (B, R, T) belongs to which pseudo-source, and the loss of each pair."""
        if self.roles == "permuted":
            return match(self.loss, est, remixed.sources, remixed.pseudo)
        ref = remixed.sources
        pair_db = self.loss(est, ref, remixed.pseudo[:, None])
        ref_energy, mix_energy = ratios.energy(ref), ratios.energy(remixed.pseudo)[:, None]
        active = self.loss.active(ref_energy, mix_energy, est.shape[-1])
        reached = snr_db(ref_energy, ratios.residual_energy(est.detach(), ref))
        chosen = torch.arange(self.n_remix, device=est.device).expand(len(est), -1)
        return Matched(pair_db.mean(-1), chosen, pair_db, active, reached)

    @torch.no_grad()
    def remix(self, mix: Tensor, refs: Tensor | None = None, raw: Tensor | None = None) -> Remixed:
        """Return the shuffled sources of mix (B, T) and their sums, without gradient; raw as in `sources`."""
        return self._shuffled(mix, self.sources(mix, refs, mix if raw is None else raw))

    def _shuffled(self, mix: Tensor, sources: Tensor) -> Remixed:
        batch = len(mix)
        if self.channel_shuffle:
            sources = take(sources, shuffle.channels(batch, self.n_remix, self.rng).to(mix.device))
        order = torch.arange(batch).repeat(self.n_remix, 1)
        moved = len(self.shuffled)
        if moved == self.n_remix:
            order = shuffle.draw(self.shuffle_kind, batch, moved, self.rng)
        else:
            # The outputs that stay are one more row of the rectangle: nothing may come back to its own place.
            drawn = shuffle.draw(self.shuffle_kind, batch, moved + 1, self.rng)
            order[self.shuffled] = drawn[1:, drawn[0].argsort()]
        sources = shuffle.apply(sources, order)
        return Remixed(mix, sources, sources.sum(1), order)

    def strongest(self, est: Tensor, mix: Tensor) -> Tensor:
        """Return the n_remix strongest of est (B, N, T), in their order, adding up to mix (B, T)."""
        return strongest(est, mix, self.n_remix)

    def _level(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return mixtures at the level that the model asks for, and references at the same scale."""
        mean, scale = self.student.input_level(batch.mix)
        mix = (batch.mix - mean) / scale
        if "sources" not in self.needs:
            return mix, None
        refs = references(batch, self.residual)
        if refs.shape[1] > self.n_src:
            raise BadInput(
                f"{refs.shape[1]} references, the residual included, for {self.n_src} outputs; "
                f"set model.n_src to {refs.shape[1]} or more"
            )
        if self.student.input_norm == "mean_std":
            # Each its own mean, so that they add up to the mixture without one, and absent sources stay silent.
            refs = refs - refs.mean(-1, keepdim=True)
        refs = torch.nn.functional.pad(refs, (0, 0, 0, self.n_src - refs.shape[1]))
        return mix, refs / scale[:, None]

    def _student(self, mix: Tensor) -> Tensor:
        # The mixtures stand at the model's level; their sums are given as they are unless renormalize asks otherwise.
        est: Tensor = self.student(mix, normalize=self.renormalize)
        return est

    def _separate(self, pseudo: Tensor) -> Tensor:
        """Return the student's estimates (B, N, T), zero where a pseudo-mixture is silent."""
        sounding = ratios.energy(pseudo) > 0
        if bool(sounding.all()):
            return self._student(pseudo)
        if not bool(sounding.any()):
            # A loss without the network in it could not be differentiated; this one has the gradient 0.
            return 0 * self._student(pseudo)
        est = self._student(pseudo[sounding])
        return est.new_zeros(len(pseudo), *est.shape[1:]).index_put((sounding.nonzero()[:, 0],), est)


def restored_sum(remixed: Remixed, est: Tensor) -> Tensor:
    """Return the mixtures (B, T) put together again from est (B, R, T), the separated pseudo-mixtures."""
    return shuffle.restore(est, remixed.order).sum(1)


def mean_sounding(loss: Tensor, mix: Tensor) -> Tensor:
    """Return the mean of loss (B,) over the mixtures (B, T) that sound, 0 where none does."""
    sounding = (ratios.energy(mix) > 0).to(loss.dtype)
    return (loss * sounding).sum() / sounding.sum().clamp_min(1)


def self_loss(loss: Loss, remixed: Remixed, est: Tensor) -> Tensor:
    """Return the mean Self-Remixing loss over sounding mixtures (equation 5)."""
    return mean_sounding(loss(restored_sum(remixed, est), remixed.mix), remixed.mix)


class _Taught(Remixing):
    """Remixing with the sources of a teacher."""

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        shuffle: Shuffle = "constrained",
        channel_shuffle: bool = True,
        n_remix: int = 0,
        roles: Roles = "permuted",
        shuffled: list[int] | None = None,
        renormalize: bool = False,
        teacher: Protocol = "ema_epoch",
        ema: float = EMA,
        period: int = 1,
        teacher_init: Init = "independent",
        teacher_model: str = "",
        supervised_fraction: float = 0.0,
        residual: bool = True,
        teacher_half_life_updates: float = 0.0,
    ) -> None:
        """Say how sources are shuffled and how the teacher follows.

        shuffle: of the outputs over the batch, channel_shuffle: of the outputs of each mixture before it.
        n_remix: how many of the teacher's strongest outputs take part, 0 for as many as the student has; as many of
        the student's strongest outputs, in each pseudo-mixture by itself, are compared with them.
        roles fixed: outputs keep their meaning and no permutation is searched; shuffled: the outputs that the
        batch shuffle moves, all by default.  renormalize: pseudo-mixtures are brought to the level of mixtures.
        teacher, ema, period, teacher_init: see Teacher.  teacher_model: a stored model teaches instead.
        teacher_half_life_updates: updates in which the teacher's average forgets half of itself, however long an
        epoch is; 0 for the paper's rule, the share `ema` per epoch.
        supervised_fraction of all mixtures trains by PIT on references; residual: what they leave of the mixture
        counts as one more. ConfigError for values that do not fit.
        """
        super().__init__(
            model, loss, shuffle, channel_shuffle, n_remix, roles, shuffled, renormalize, supervised_fraction, residual
        )
        self.teacher_model = teacher_model
        self._teacher = Teacher(
            model, teacher, ema, period, teacher_init, bool(teacher_model), teacher_half_life_updates
        )

    @property
    def teacher(self) -> SeparationModel:
        """The model that teaches now."""
        return self._teacher.network

    def stored(self) -> dict[str, str]:
        """Return the reference of the model that teaches in the student's place."""
        return {"objective.teacher_model": self.teacher_model}

    def give(self, key: str, part: Fixed) -> None:
        """Teach with a stored model; ConfigError where it has too few outputs, or more than fixed roles allow."""
        del key
        model = part.module
        assert isinstance(model, SeparationModel)
        if model.n_src < self.n_remix:
            raise ConfigError(
                f"objective.teacher_model: {model.n_src} outputs for {self.n_remix} sources; lower objective.n_remix"
            )
        if self.roles == "fixed" and model.n_src != self.n_remix:
            raise ConfigError(
                f"objective.teacher_model: {model.n_src} outputs; expected {self.n_remix}, since objective.roles "
                "'fixed' gives every output one meaning"
            )
        self._teacher.replace(part, self.student)

    def sources(self, mix: Tensor, refs: Tensor | None, raw: Tensor) -> Tensor:
        """Return the teacher's strongest outputs (B, R, T), adding up to mix (B, T)."""
        del refs
        asked = self.teacher.input_norm
        if asked == "none" and self.student.input_norm != "none":
            # It learned at the level of the recordings, not at the student's.
            est = self._teacher(raw) / self.student.input_level(raw)[1][:, None]
        else:
            est = self._teacher(mix, normalize=asked != self.student.input_norm)
        return self.strongest(est, mix)

    def on_start(self, steps_per_epoch: int) -> None:
        """Learn how long an epoch is."""
        self._teacher.steps_per_epoch = steps_per_epoch

    def notes(self) -> list[str]:
        """Return a warning of a teacher that follows too fast to teach."""
        half = self._teacher.half_life()
        if not half < FAST:
            return []
        rule = f"objective.ema {self._teacher.ema:g} per epoch of {self._teacher.steps_per_epoch} updates"
        return [
            f"warning: the teacher forgets half of itself in {half:.0f} updates"
            f"{'' if self._teacher.half_life_updates else f' ({rule})'}; with fewer than {FAST}, student and teacher "
            "tend to agree on nothing separated: see objective.teacher_half_life_updates, 3289 in small_remixit"
        ]

    def on_step_end(self) -> None:
        """Let the teacher follow."""
        self._teacher.on_step_end(self.student)

    def on_epoch_end(self) -> None:
        """Let the teacher follow."""
        self._teacher.on_epoch_end(self.student)


class RemixIT(_Taught):
    """The student learns the teacher's sources from their shuffled sums."""

    def criterion(self, remixed: Remixed, est: Tensor, found: Matched) -> dict[str, Tensor]:
        """Return the loss against the shuffled sources (equation 3), over sounding pseudo-mixtures."""
        del est
        return {"remixit": mean_sounding(found.loss, remixed.pseudo)}


class SelfRemixing(_Taught):
    """The student's estimates, shuffled back, shall add up to the mixtures."""

    def criterion(self, remixed: Remixed, est: Tensor, found: Matched) -> dict[str, Tensor]:
        """Return the loss against the mixtures (equation 5); the order of outputs has no gradient."""
        del found
        return {"self_remixing": self_loss(self.loss, remixed, est)}
