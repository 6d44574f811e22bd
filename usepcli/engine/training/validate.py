"""Validation during a run: score the present weights, keep the best, average them into the run's model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from usepcli import guard, registry
from usepcli.data.batch import Example, collate
from usepcli.data.items import Reader
from usepcli.data.manifest import Manifest
from usepcli.engine import tables
from usepcli.engine.scoring import calibrating, evaluate, judged, momi
from usepcli.engine.scoring.scoring import FAILED
from usepcli.engine.training import beginning, choice, health, valid_split
from usepcli.engine.training.average import BestStates, part_file
from usepcli.engine.training.runfolder import training_data
from usepcli.errors import BadInput, ConfigError, MissingDependency
from usepcli.models.audio_text import AudioText
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import Objective
from usepcli.profile.schema import BLIND
from usepcli.report import epochs, plots
from usepcli.report.logged import Logged
from usepcli.versions import versions
from usepcli.weights import build, cards, store

TABLE = "valid.csv"
LATEST = "last.safetensors"  # of a run in which no validation had a score


class Validator:
    """Scores weights on the validation split; `metric` chooses among them, '' where the latest count as best."""

    def __init__(
        self,
        profile: Any,
        folder: Path,
        device: torch.device,
        objective: Objective | None = None,
    ) -> None:
        """Read the split and settle what chooses; ConfigError where it lacks what `valid.metric` needs.

        objective: whose frozen parts the card names, and who may score itself.
        """
        self.p, self.folder, self.device = profile, folder, device
        self.fixed = beginning.fixed_facts(objective) if objective else {}
        self.model = build.model(profile.model)
        self.cost = build.cost_of(self.model)
        self.best = BestStates(folder, profile.valid.keep_best, profile.valid.average)
        self.split, (self.metric, self.also, self.notes) = valid_split.settle(profile, self.model)
        self.own = objective if objective is not None and self.metric in objective.own else None
        higher = self.own.own[self.metric] if self.own else not self.metric or health.higher_is_better(self.metric)
        self.sign = 1.0 if higher else -1.0
        self.step = 0
        self.logged = Logged(folder / "train.csv")
        self.figures: dict[str, float] = {}
        self.phrases: tuple[str, ...] = ()  # of a model that hears and reads
        self.items: dict[str, float] = {}  # momi of each sum of two mixtures
        self.unscored: dict[str, str] = {}  # validation items without scores, and why
        self.at_start: dict[str, float] = {}

    def start(self, step: int, teacher: SeparationModel | None = None) -> list[str]:
        """Return what to say before training; at step 0 see how much the untrained teacher alters its input.

        ConfigError where the teacher is to choose and there is none.
        """
        if self.metric == "teacher_agreement" and teacher is None:
            raise ConfigError("valid.metric: teacher_agreement, but the objective has no teacher; set it to momi")
        lines = [*self.notes, *valid_split.known_voices(self.p)]
        if self.metric == "momi" and len(self.split.pairs) < choice.FEW:
            n = len(self.split.pairs)
            lines.append(
                f"momi chooses by {n} pairs of mixtures, which tell little; of weights that they cannot tell apart the "
                "latest are kept (more validation mixtures tell more)"
                if n > 1
                else "momi chooses by one pair of mixtures, so take its choice for luck; add validation mixtures"
            )
        if step == 0 and teacher is not None and not (self.p.init_from or self.fixed) and self.split.single is not None:
            value = health.likeness_to_input(
                teacher, self.split.single, device=self.device, seconds=self.p.valid.mom_seconds,
                channels=self.p.data.channels,
            )  # fmt: skip
            self.at_start = {"teacher_input_si_sdr": value}
            lines.append(
                f"before the first step the teacher's outputs match its input to {value:.1f} dB SI-SDR "
                "(it is untrained: the less it alters its input, the better its first sources; 18.4 in the literature)"
            )
        return lines

    def score(
        self, weights: dict[str, Tensor], step: int, teacher: SeparationModel | None = None, skipped: int = 0
    ) -> float:
        """Return the score that chooses, higher being better; keep the weights if they are among the best.

        teacher: the objective's, to see how far the student follows it.  skipped: steps that were not finite.
        """
        state = {k: v.detach().cpu().clone() for k, v in weights.items()}
        self.model.load_state_dict(state)
        self.model.to(self.device).eval()
        self.unscored, self.items = {}, {}
        if self.own:
            found = self._of_its_own(self.own)
        else:
            with health.Overheard(self.model) as overheard:
                found = {**self._referenced(), **self._blind(teacher, overheard)}
        self.step, self.figures = step, {**found, "skipped": skipped}
        score = float(step)
        if self.metric:
            value = self.figures.setdefault(self.metric, math.nan)
            # A score that does not exist must not win.
            score = self.sign * value if math.isfinite(value) else -math.inf
        items = self.items if self.metric == "momi" else None
        if self.best.offer(score, step, state, self.card(step, step), items) and self.chosen >= 0:
            # The mean of several states has the score of the first of them, and says so.
            card = self.card(step, self.chosen)
            store.save_model(self.folder / "best.safetensors", self.best.mean(), card)
        return score

    @property
    def chosen(self) -> int:
        """The step whose weights are the run's model, or the first of them; -1 where none had a score yet."""
        first = self.best.scores[:1]
        return first[0][1] if first and math.isfinite(first[0][0]) else -1

    def keep_latest(self, weights: Mapping[str, Tensor], step: int) -> Path:
        """Return the run's model; where no validation had a score, the weights given, which nothing has chosen."""
        if (self.folder / "best.safetensors").exists():
            return self.folder / "best.safetensors"
        state = {k: v.detach().cpu().clone() for k, v in weights.items()}
        store.save_model(self.folder / LATEST, state, self.card(step, step))
        return self.folder / LATEST

    def conclude(self, weights: Mapping[str, Tensor], step: int) -> tuple[Path, list[str]]:
        """Return the run's model, as of `keep_latest`, and what is to be said of it; of one by query calibrate it."""
        path = self.keep_latest(weights, step)
        said = []
        if path.name == LATEST:
            said.append(
                f"warning: no validation had a score in {self.metric}, so nothing was chosen; the latest weights are "
                f"in {path}"
            )
        if not self.model.n_src and self.p.objective["name"] not in registry.PREPARING:
            net, single = store.load_any(path)[0], self.split.asked
            said.append(calibrating.of_run(path, net, single, self.split.where, self.device, self.p.data.channels))
        return path, [line for line in said if line]

    def keep_parts(self, parts: Mapping[str, nn.Module], step: int) -> None:
        """Write the weights of the other groups, a critic for instance, as they are beside the best model."""
        for group, module in parts.items():
            about = f"'{group}' of the training objective, as it was at the best validation"
            card = replace(self.card(step, step), about=about, model={}, n_src=0, scores=[])
            store.save_model(part_file(self.folder, group), module.state_dict(), card)

    @torch.no_grad()
    def _of_its_own(self, objective: Objective) -> dict[str, float]:
        """Return the means of what an objective measures itself, over the items that can be read."""
        table = self.split.mixtures
        assert table is not None
        reader = Reader(table, self.model.sample_rate, channels=self.p.data.channels)
        found: list[dict[str, float]] = []
        for row in table.rows:
            try:
                one = Example(row.id, reader.whole(row).mix, queries=row.queries, label=row.label)
                found.append(objective.validated(self.model, collate([one]).to(self.device)))  # type: ignore[arg-type]
            except Exception as error:
                self.unscored[row.id] = str(guard.fault(error, row.id, (ConfigError, MissingDependency)))
        return {name: tables.summarise(each[name] for each in found).mean for name in objective.own}

    def _referenced(self) -> dict[str, float]:
        names = [name for name in (self.metric, *self.also) if name and name not in BLIND]
        if self.split.references is None or not names:
            return {}
        if isinstance(self.model, AudioText):
            return self._judged(self.model, self.split.references, names)
        rows = evaluate.score_model(
            self.model, self.split.references, names, device=self.device, limit=self.p.valid.limit,
            channels=self.p.data.channels,
        )  # fmt: skip # as training hears them
        self.unscored |= {row["id"]: row["reason"] for row in rows if row["reason"].startswith(FAILED)}
        return {row["metric"]: row["mean"] for row in evaluate.summary(rows, names)}

    def _judged(self, model: AudioText, references: Manifest, names: list[str]) -> dict[str, float]:
        """Return how well the model tells sources apart by their phrases, as `usep evaluate --judge` measures it."""
        rows = references.rows[: self.p.valid.limit or None]
        if not self.phrases:  # of the whole split, as an evaluation has them
            self.phrases = tuple(sorted({query for row in references.rows for query in row.queries}))
        found = judged.scored(model, replace(references, rows=rows), self.phrases, self.p.data.channels)
        self.unscored |= {row["id"]: row["reason"] for row in found if row["reason"].startswith(FAILED)}
        return {row["metric"]: row["mean"] for row in evaluate.summary(found, names)}

    def _blind(self, teacher: SeparationModel | None, overheard: health.Overheard) -> dict[str, float]:
        """Return the scores of mixtures alone: no row's sources are opened."""
        figures: dict[str, float] = {}
        if isinstance(self.model, AudioText):  # separates nothing
            return figures
        where: dict[str, Any] = {
            "device": self.device,
            "seconds": self.p.valid.mom_seconds,
            "channels": self.p.data.channels,
        }
        if self.split.pairs and self.split.mixtures is not None:
            figures["momi"] = self._momi(self.split.mixtures, where)
        if self.split.single is not None:
            figures |= health.from_mixtures(
                self.model, self.split.single, teacher=teacher, overheard=overheard, **where
            )
        return figures

    def _momi(self, mixtures: Manifest, where: dict[str, Any]) -> float:
        """Return the mean over the sums of two mixtures that can be read; nan where none can."""
        try:
            rows = momi.score_moms(self.model, mixtures, self.split.pairs, sources=False, **where)
        except BadInput as fault:
            if self.metric == "momi":
                self.unscored["momi"] = str(fault)
            return math.nan
        self.items = {row["id"]: row["momi"] for row in rows if math.isfinite(row["momi"])}
        return tables.summarise(row["momi"] for row in rows).mean

    def card(self, step: int, scored: int) -> cards.Card:
        """Return what a model of this run after `step` steps says of itself, with the scores of step `scored`."""
        p = self.p
        return cards.Card(
            name=p.name,
            about=p.about,
            model=build.config_of(self.model) | (self.own.settled() if self.own else {}),
            sample_rate=self.model.sample_rate,
            n_src=self.model.n_src,
            cost=self.cost,
            objective=p.objective["name"],
            training_data=training_data(p.data.manifest, p.data.pool),
            licence=p.licence,
            credits=p.credits,
            scores=[self._entry(name, value) for name, value in self._scores(scored).items()],
            profile=p.as_dict(),
            steps=step,
            fixed=self.fixed,
            versions=versions("torch"),
        )

    def _scores(self, step: int) -> dict[str, float]:
        """Return the chosen metric and those of valid.also at a step validated now or earlier."""
        row: dict[str, Any] = self.figures
        if step != self.step and (self.folder / TABLE).exists():
            row = next((r for r in tables.read_csv(self.folder / TABLE) if r["step"] == str(step)), {})
        values = {name: tables.number(row.get(name)) for name in (self.metric, *self.also) if name}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _entry(self, name: str, value: float) -> dict[str, Any]:
        split, valid = self.split, self.p.valid
        items, protocol = len(split.references or ()), "mean over items and sources"
        if name in BLIND:
            items, protocol = len(split.single or ()), "mean over mixtures, no source opened"
        if self.own:
            items, protocol = (
                len(split.mixtures or ()),
                f"mean over recordings, by objective {self.p.objective['name']}",
            )
        if name == "momi":
            items, protocol = len(split.pairs), "mean over sums of two mixtures, no source opened"
        role = "chose the weights" if name == self.metric else f"{self.metric or 'nothing'} chose the weights"
        return {
            "metric": name,
            "value": round(value, 3),
            "n": min(valid.limit or items, items),
            "data": f"{self.p.data.manifest}, split {self.p.data.valid_split}, best single validation",
            "protocol": f"{protocol}; {role}",
        }

    def record(self, epoch: int, step: int, score: float, best: float, seconds: float) -> None:
        """Append to valid.csv and draw the learning curve where matplotlib is present."""
        if not self.metric and len(self.figures) < 2:
            return
        row: dict[str, Any] = {"epoch": epoch, "step": step}
        if self.metric:
            row |= {self.metric: self.figures[self.metric], "best": self.sign * best if math.isfinite(best) else ""}
        row |= {"seconds": round(seconds, 1), **{k: v for k, v in self.figures.items() if k != self.metric}}
        if self.metric:
            row["chosen"] = self.chosen if self.chosen >= 0 else ""
        if not (self.folder / TABLE).exists():
            row |= self.at_start
        tables.append_row(self.folder / TABLE, row)
        if (self.folder / "train.csv").exists():
            try:
                both = (self.folder / f"curves.{form}" for form in plots.FORMS)
                plots.learning_curve(self.logged, self.folder / TABLE, *both)
                if self.metric and self.also:
                    both = (self.folder / f"scores.{form}" for form in plots.FORMS)
                    epochs.beside({self.p.name: self.folder / TABLE}, [self.metric, *self.also], *both)
            except MissingDependency:
                return

    def lines(self, best: float, better: bool) -> list[str]:
        """Return in words what the last validation found, warnings last; better: it is the best so far."""
        figures, found = self.figures, []
        if self.metric and not math.isfinite(figures[self.metric]):
            so_far = (
                f"the best so far is {self.sign * best:.2f}" if math.isfinite(best) else "there is no best model yet"
            )
            found.append(f"warning: no item has a score in {self.metric}: nothing is chosen, {so_far}")
        elif self.metric:
            found.append(f"{self.metric} {figures[self.metric]:.2f}{self._mark(best, better)}")
        else:
            found.append("the latest weights are kept")
        beside = [name for name in (*self.also, "momi") if name in figures and name != self.metric]
        found[0] += "".join(f"; {name} {figures[name]:.2f}" for name in beside)
        for item, reason in list(self.unscored.items())[:1]:
            found.append(f"warning: {len(self.unscored)} validation items have no scores, e.g. {item}: {reason}")
        if words := health.said(figures):
            found.append(words)
        if (self.folder / TABLE).exists():
            rows = tables.read_csv(self.folder / TABLE)
            found += health.warnings(rows)
            # Where a metric with references chooses, it says more than MoMi.
            if (not self.metric or self.metric in BLIND) and (self.folder / "train.csv").exists():
                found += health.collapse(rows, self.logged.read())
        return found

    def _mark(self, best: float, better: bool) -> str:
        """Return how the last score stands to the best, and whose weights are kept where they are not the best's."""
        if better:
            return ", the best so far"
        said = f", best {self.sign * best:.2f}"
        if self.chosen == self.step and self.items:
            return f"{said}; {len(self.items)} pairs do not tell them apart: the later weights are kept"
        return f"{said}; the weights of step {self.chosen} are kept" if self.chosen != self.best.top[1] else said
