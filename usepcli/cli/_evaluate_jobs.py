"""What `usep evaluate` is asked for, checked, and turned into something to score."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.errors import BadInput, InputNotFound, UsageError, choices, did_you_mean

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.engine.scoring.protocols import Protocol
    from usepcli.models.queried import Model
    from usepcli.weights.store import Card

Rows = list[dict[str, Any]]
Say = Callable[[str], None]
SAMPLES = Path(__file__).resolve().parent.parent / "samples" / "testset"
# Scores of a whole set, or of sums of its mixtures: no metric of one source against its reference.
OF_SETS = ("momi", "wer")
BY = ("label", "origin", "speakers", "split", "n_src", "source", "k")


@dataclass(frozen=True)
class Asked:
    """The options of the command, under their names."""

    model: str | None
    data: Path | None
    split: str
    metric: list[str]
    protocol: str
    out: Path | None
    estimates: Path | None
    references: Path | None
    mixtures: Path | None
    skip_missing: bool
    unprocessed: bool
    mom_pairs: int
    hypotheses: Path | None
    asr: Path | None
    language: str
    texts: Path | None
    kaldi_export: Path | None
    seed: int
    stats: bool
    by: str
    versus: list[Path]
    compare: str
    report: bool
    report_by: str
    listening_test: Path | None
    trials: int
    against: str
    listening_kind: str
    listening_score: list[Path]
    key: Path | None
    limit: int
    device: str
    workers: int
    threads: int
    as_json: bool
    overwrite: bool
    quiet: bool

    @property
    def files(self) -> bool:
        """Whether separated files are scored, and no model."""
        return any(folder is not None for folder in (self.estimates, self.references, self.mixtures))

    @property
    def metrics(self) -> list[str]:
        """The metrics per source: none under a protocol, si-snri (or si-snr) where nothing was asked for."""
        asked = [name for name in dict.fromkeys(self.metric) if name not in OF_SETS]
        if asked or self.metric or self.protocol:
            return asked
        return ["si-snr" if self.files and self.mixtures is None else "si-snri"]

    @property
    def words_alone(self) -> bool:
        """Whether nothing but a table of hypotheses is scored: no model separates, no file is opened."""
        return (
            self.hypotheses is not None
            and set(self.metric) == {"wer"}
            and not (self.protocol or self.kaldi_export or self.files)
        )

    def say(self, line: str) -> None:
        """Write a note to stderr unless --quiet."""
        if not self.quiet:
            sys.stderr.write(line + "\n")


@dataclass
class Job:
    """Something to score: its facts for evaluate.json, its default folder, and how to score it item by item."""

    facts: dict[str, Any]
    out: Path
    run: Callable[[Callable[[Iterable[Any], int], Iterable[Any]]], Rows]
    manifest: Manifest | None = None
    net: Model | None = None
    device: Any = "cpu"


def check(asked: Asked) -> Protocol | None:
    """UsageError for options that do not go together; return the protocol asked for."""
    from usepcli import registry
    from usepcli.engine.scoring import protocols, scoring

    known = {*registry.METRICS, *OF_SETS}
    for name in asked.metric:
        if name not in known:
            raise UsageError(choices("metric", name, known))
    protocol = protocols.find(asked.protocol) if asked.protocol else None
    if protocol and (asked.metrics or asked.mixtures):
        what = f"--metric {asked.metrics[0]}" if asked.metrics else "--mixtures"
        raise UsageError(
            f"--protocol {protocol.name} says which scores and which mixtures count: leave {what} away, "
            "or score it in a run of its own"
        )
    if asked.metrics:
        scoring.check_metrics(asked.metrics, has_mixture=not asked.files or asked.mixtures is not None)
    if asked.files and (asked.model is not None or asked.data is not None or asked.split):
        raise UsageError("--estimates takes files: leave MODEL, --data and --split away")
    if asked.files and "momi" in asked.metric:
        raise UsageError("--metric momi separates sums of mixtures: it needs a MODEL, not --estimates")
    if not asked.metrics and not protocol and (asked.unprocessed or asked.stats or asked.by or asked.versus):
        raise UsageError("--unprocessed, --stats, --by and --versus need a --metric per source, or a --protocol")
    if asked.unprocessed and asked.files and asked.mixtures is None and not protocol:
        raise UsageError("--unprocessed scores the mixtures: give --mixtures DIR")
    _check_by(asked)
    if asked.compare:
        from usepcli.engine.scoring.compare import profiles

        if asked.compare not in profiles():
            raise UsageError(choices("profile with published numbers", asked.compare, profiles()))
    return protocol


def _check_by(asked: Asked) -> None:
    fitting = [name for name in BY if (name != "k" or asked.protocol) and (name != "n_src" or not asked.protocol)]
    if asked.files:
        fitting = [name for name in fitting if name in ("n_src", "source", "k")]
    if asked.by and asked.by not in fitting:
        raise UsageError(choices("column for --by", asked.by, fitting))


def find(asked: Asked, protocol: Protocol | None) -> Job:
    """Return what is to be scored: a table of words, separated files, or a model."""
    if asked.words_alone:
        return words_job(asked)
    return files_job(asked, protocol) if asked.files else model_job(asked, protocol)


def words_job(asked: Asked) -> Job:
    """Return the job of comparing a table of hypotheses with the texts of a manifest or of another table."""
    from usepcli.data.manifest import Manifest
    from usepcli.engine.scoring import results

    if asked.model is not None:
        raise UsageError("a table of hypotheses is scored without a MODEL: leave it away, or ask for another --metric")
    if asked.data is None and asked.texts is None:
        raise UsageError("--hypotheses needs what was said: --data MANIFEST with texts, or --texts FILE")
    facts: dict[str, Any] = {"settings": {"limit": asked.limit, "metrics": []}}
    manifest = None
    if asked.data is not None:
        manifest, split = _chosen(Manifest.read(asked.data), asked.split, "test")
        facts["data"] = results.about_data(manifest, split, manifest.rows[0].sample_rate)
        asked.say(f"data: {manifest.path}, split {split or 'unnamed'}, {len(manifest)} items")
    return Job(facts, Path("evaluation"), lambda track: [], manifest)


def files_job(asked: Asked, protocol: Protocol | None) -> Job:
    """Return the job of scoring separated files."""
    if asked.estimates is None or asked.references is None:
        raise UsageError("separated files need both --estimates DIR and --references DIR")
    from usepcli.engine.scoring.evaluate import score_folders

    estimates, references, mixtures = asked.estimates, asked.references, asked.mixtures
    names = {"estimates": estimates, "references": references, "mixtures": mixtures}
    facts = {key: str(path.resolve()) if path else "" for key, path in names.items()}
    settings = {"limit": asked.limit, "skip_missing": asked.skip_missing, "metrics": asked.metrics}
    return Job(
        {**facts, "settings": settings},
        Path("evaluation"),
        lambda track: score_folders(
            estimates, references, mixtures, asked.metrics, protocol=protocol, unprocessed=asked.unprocessed,
            workers=asked.workers or _workers(asked.metrics, asked.limit), limit=asked.limit,
            skip_missing=asked.skip_missing, say=asked.say, track=track,
        ),
    )  # fmt: skip


def model_job(asked: Asked, protocol: Protocol | None) -> Job:
    """Return the job of scoring a model on a manifest."""
    ref = asked.model or _latest_run() or "default"
    if ref == "default" and not _released_default():
        raise InputNotFound(f"{_runs()}: no trained run in it and no model called default; name a MODEL")
    from usepcli import device as devices
    from usepcli.engine.scoring import results
    from usepcli.engine.scoring.evaluate import score_model
    from usepcli.weights import cards, reach, store

    path = reach.find_model(ref)
    net, card = store.load_any(path)
    run = path.parent if path.name == "best.safetensors" else None
    manifest, split = _data(card, run is not None, asked.data, asked.split)
    asked.say(f"model: {ref} ({path}), {card.n_src} outputs at {card.sample_rate} Hz")
    asked.say(f"data: {manifest.path}, split {split or 'unnamed'}, {len(manifest)} items")
    where = devices.pick(asked.device)
    devices.set_threads(asked.threads)
    count = asked.workers or _workers(asked.metrics, min(asked.limit or len(manifest), len(manifest)))
    facts = {
        "model": {"ref": ref, "path": str(path), "sha256": cards.read_card(path)[1], **_about(card)},
        "data": results.about_data(manifest, split, card.sample_rate),
        "settings": {"limit": asked.limit, "device": str(where), "metrics": asked.metrics},
    }
    return Job(
        facts,
        run / f"eval_{split or 'all'}" if run else Path("evaluation"),
        lambda track: score_model(
            net, manifest, asked.metrics, device=where, workers=count, limit=asked.limit,
            protocol=protocol, unprocessed=asked.unprocessed, say=asked.say, track=track,
        ),
        manifest, net, where,
    )  # fmt: skip


def _about(card: Card) -> dict[str, Any]:
    return {
        "name": card.name, "architecture": card.model.get("name", ""), "objective": card.objective,
        "sample_rate": card.sample_rate, "n_src": card.n_src, "steps": card.steps,
    }  # fmt: skip


def _runs() -> Path:
    return Path(os.environ.get("USEP_RUNS") or "runs")


def _latest_run() -> str:
    """Return the run folder with the newest best.safetensors, or ''."""
    found = sorted(_runs().glob("**/best.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    return str(found[-1].parent) if found else ""


def _released_default() -> bool:
    return (SAMPLES.parent.parent / "pretrained" / "default.safetensors").is_file()


def _data(card: Card, is_run: bool, data: Path | None, split: str) -> tuple[Manifest, str]:
    """Return the rows to score and their split: from --data, the run's own manifest, or the shipped set."""
    from usepcli.data.manifest import Manifest

    own = card.profile.get("data", {}) if data is None and is_run else {}
    place = data or Path(own.get("manifest") or "") if data or own.get("manifest") else None
    if place is None and is_run:
        raise UsageError("this run was trained without a manifest; give one to score it on with --data")
    if place is not None and data is None and not place.exists():
        raise InputNotFound(f"{place}: the run's data.manifest is not here; give a test set with --data")
    return _chosen(Manifest.read(place or SAMPLES), split, own.get("test_split") or "test")


def _chosen(table: Manifest, split: str, usual: str) -> tuple[Manifest, str]:
    """Return the rows of `split`, by default of the usual one, or all of a table without splits; and its name."""
    wanted = split or usual
    chosen = table.split(wanted)
    if not len(chosen) and not split and set(table.splits()) == {""}:
        return table, ""  # a manifest without splits is one set
    if not len(chosen):
        there = table.splits()
        listed = ", ".join(f"{name or 'unnamed'} ({count})" for name, count in there.items()) or "no rows"
        raise BadInput(f"{table.path}: no split '{wanted}'{did_you_mean(wanted, there)}; it has {listed}")
    return chosen, wanted


def _workers(metrics: list[str], items: int) -> int:
    # A worker takes seconds to start; only BSS-eval and PESQ (0.1 s and more per item) on many items pay that back.
    heavy = {"sdr", "sdri", "sir", "sar", "pesq", "pesqi", "stoi", "stoii"} & set(metrics)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 16) if heavy and cores > 1 and (items == 0 or items >= 50) else 0
