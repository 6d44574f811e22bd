"""Validation during a run: score the present weights, keep the best, average them into the run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usepcli import registry
from usepcli.data.manifest import Manifest
from usepcli.engine import build, checkpoint, evaluate, tables
from usepcli.engine.average import BestStates
from usepcli.engine.runfolder import versions
from usepcli.errors import ConfigError, MissingDependency
from usepcli.report import plots


class Validator:
    """Scores weights on the validation split by `valid.metric`; without references the latest weights count as best."""

    def __init__(self, profile: Any, folder: Path, device: torch.device) -> None:
        self.p, self.folder, self.device = profile, folder, device
        self.metric = profile.valid.metric
        self.sign = 1.0 if registry.load("metric", self.metric).higher_is_better else -1.0
        self.model = build.model(profile.model)
        self.best = BestStates(folder, profile.valid.keep_best, profile.valid.average)
        self.manifest = self._manifest()

    def _manifest(self) -> Manifest | None:
        data = self.p.data
        if not data.manifest:
            return None
        rows = Manifest.read(data.manifest).split(data.valid_split)
        usable = [row for row in rows.rows if row.sources]
        if not usable and "sources" in registry.load("objective", self.p.objective["name"]).needs:
            raise ConfigError(
                f"data.valid_split: no row of {data.manifest} with sources has split '{data.valid_split}'"
            )
        return Manifest(usable, rows.root, rows.path) if usable else None

    def score(self, weights: dict[str, Tensor], step: int) -> float:
        """Return the mean of the metric, higher being better; keep the weights if they are among the best."""
        state = {k: v.detach().cpu().clone() for k, v in weights.items()}
        score = float(step)
        if self.manifest is not None:
            self.model.load_state_dict(state)
            self.model.to(self.device).eval()
            rows = evaluate.score_model(
                self.model, self.manifest, [self.metric], device=self.device, limit=self.p.valid.limit
            )
            score = self.sign * evaluate.summary(rows, [self.metric])[0]["mean"]
        if self.best.offer(score, step, state, self.card(step, score)):
            card = self.card(step, score)
            checkpoint.save_model(self.folder / "best.safetensors", self.best.mean(), card)
        return score

    def card(self, step: int, score: float) -> checkpoint.Card:
        """Return what the run's model says of itself."""
        p, scores = self.p, []
        if self.manifest is not None:
            items = min(p.valid.limit or len(self.manifest.rows), len(self.manifest.rows))
            scores = [
                {
                    "metric": self.metric,
                    "value": round(self.sign * score, 3),
                    "n": items,
                    "data": f"{p.data.manifest}, split {p.data.valid_split}, best single validation",
                    "protocol": "mean over items and sources",
                }
            ]
        return checkpoint.Card(
            name=p.name,
            about=p.about,
            model=build.config_of(self.model),
            sample_rate=self.model.sample_rate,
            n_src=self.model.n_src,
            objective=p.objective["name"],
            training_data=", ".join(filter(None, [p.data.manifest, *p.data.pool])),
            licence=p.licence,
            credits=p.credits,
            scores=scores,
            profile=p.as_dict(),
            steps=step,
            versions=versions(),
        )

    def record(self, epoch: int, step: int, score: float, best: float, seconds: float) -> None:
        """Append to valid.csv and draw the learning curve where matplotlib is present."""
        row = {
            "epoch": epoch,
            "step": step,
            self.metric: self.sign * score,
            "best": self.sign * best,
            "seconds": round(seconds, 1),
        }
        tables.append_row(self.folder / "valid.csv", row)
        if (self.folder / "train.csv").exists():
            try:
                plots.learning_curve(self.folder / "train.csv", self.folder / "valid.csv", self.folder / "curves.png")
            except MissingDependency:
                return
