"""`usep evaluate`: score a model on a test set, or anybody's separated files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import BadInput, InputNotFound, UsageError, did_you_mean

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.engine.checkpoint import Card

Rows = list[dict[str, Any]]
SAMPLES = Path(__file__).resolve().parent.parent / "samples" / "testset"


@dataclass
class Job:
    """Something to score: its facts for evaluate.json, its default folder, and how to do it."""

    facts: dict[str, Any]
    out: Path
    run: Callable[[Callable[[Iterable[Any], int], Iterable[Any]]], Rows]


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL|RUN",
            help="Released model, .safetensors file or run folder; by default the latest run.",
            autocompletion=options.complete_model,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Manifest, or its folder; by default the model's own.", show_default=False),
    ] = None,
    split: Annotated[
        str,
        typer.Option("--split", help="Split of the manifest; by default the model's test split, or test."),
    ] = "",
    metric: options.Metrics = [],  # noqa: B006 - Typer copies it
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the results; by default RUN/eval_SPLIT, or evaluation."),
    ] = None,
    estimates: Annotated[
        Path | None, typer.Option("--estimates", help="Folder of separated files.", show_default=False)
    ] = None,
    references: Annotated[
        Path | None, typer.Option("--references", help="Folder of true sources.", show_default=False)
    ] = None,
    mixtures: Annotated[
        Path | None,
        typer.Option("--mixtures", help="Folder of mixtures, for improvements such as si-snri.", show_default=False),
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Go on where estimates are missing; their rows say so.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Score the first items only; 0 scores all.")] = 0,
    device: options.Device = "auto",
    workers: options.Workers = 0,
    threads: options.Threads = 0,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Score a model on a test set, or files that any program separated.

    Without MODEL and --data the latest run (under runs/, or $USEP_RUNS) is scored on its own test split, or
    else the model `default` on the small test set that comes with usep. Results: items.csv, one row per item
    and source; summary.csv; evaluate.json; the summary on the screen.

    \b
    Folders of files, at any depth, the same ids on both sides:
      s1/ID.wav  s2/ID.wav      one folder per source
      ID/s1.wav  ID/s2.wav      one folder per item
      ID_1.wav   ID_2.wav       one folder for all (also ID_s1.wav)
    Mixtures: ID.wav or ID/mix.wav. Unequal lengths are trimmed, further estimates ignored.

    \b
    Examples:
      usep evaluate default --data data/two --metric si-snri --metric sdri -o scores
      usep evaluate --estimates separated --references data/two/wav/test --metric si-snr -o scores
    """
    from usepcli.engine import scoring

    files = estimates is not None or references is not None or mixtures is not None
    metrics = list(dict.fromkeys(metric)) or ["si-snr" if files and mixtures is None else "si-snri"]
    scoring.check_metrics(metrics, has_mixture=not files or mixtures is not None)
    say = _quiet if quiet else _say
    if files:
        if model is not None or data is not None or split:
            raise UsageError("--estimates takes files: leave MODEL, --data and --split away")
        job = _files_job(estimates, references, mixtures, metrics, workers, limit, skip_missing, say)
    else:
        job = _model_job(model, data, split, metrics, device, threads, workers, limit, say)
    folder = out or job.out
    scoring.refuse_existing(folder, overwrite)
    record = scoring.save(folder, job.run(_tracker(quiet)), metrics, job.facts)
    _report(record, folder, as_json, say)


def _files_job(
    estimates: Path | None,
    references: Path | None,
    mixtures: Path | None,
    metrics: list[str],
    workers: int,
    limit: int,
    skip_missing: bool,
    say: Callable[[str], None],
) -> Job:
    if estimates is None or references is None:
        raise UsageError("separated files need both --estimates DIR and --references DIR")
    from usepcli.engine.evaluate import score_folders

    names = {"estimates": str(estimates), "references": str(references), "mixtures": str(mixtures or "")}
    facts = {**names, "settings": {"limit": limit, "skip_missing": skip_missing, "metrics": metrics}}
    return Job(
        facts,
        Path("evaluation"),
        lambda track: score_folders(
            estimates, references, mixtures, metrics,
            workers=workers or _workers(metrics, limit), limit=limit, skip_missing=skip_missing,
            say=say, track=track,
        ),
    )  # fmt: skip


def _model_job(
    model: str | None,
    data: Path | None,
    split: str,
    metrics: list[str],
    device: str,
    threads: int,
    workers: int,
    limit: int,
    say: Callable[[str], None],
) -> Job:
    ref = model or _latest_run() or "default"
    if ref == "default" and not _released_default():
        raise InputNotFound(f"{_runs()}: no trained run in it and no model called default; name a MODEL")
    from usepcli.engine import checkpoint
    from usepcli.engine import device as devices
    from usepcli.engine.evaluate import score_model

    path = checkpoint.find_model(ref)
    net, card = checkpoint.load_model(path)
    run = path.parent if path.name == "best.safetensors" else None
    manifest, split = _data(card, run is not None, data, split)
    say(f"model: {ref} ({path}), {card.n_src} outputs at {card.sample_rate} Hz")
    say(f"data: {manifest.path}, split {split or 'unnamed'}, {len(manifest)} items")
    where = devices.pick(device)
    devices.set_threads(threads)
    count = workers or _workers(metrics, min(limit or len(manifest), len(manifest)))
    facts = {
        "model": {"ref": ref, "path": str(path), "sha256": checkpoint.read_card(path)[1], **_about(card)},
        "data": {"manifest": str(manifest.path), "split": split},
        "settings": {"limit": limit, "device": str(where), "metrics": metrics},
    }
    return Job(
        facts,
        run / f"eval_{split or 'all'}" if run else Path("evaluation"),
        lambda track: score_model(
            net, manifest, metrics, device=where, workers=count, limit=limit, say=say, track=track
        ),
    )


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
    table = Manifest.read(place or SAMPLES)
    wanted = split or own.get("test_split") or "test"
    chosen = table.split(wanted)
    if not len(chosen) and not split and set(table.splits()) == {""}:
        return table, ""  # a manifest without splits is one set
    if not len(chosen):
        there = table.splits()
        listed = ", ".join(f"{name or 'unnamed'} ({count})" for name, count in there.items()) or "no rows"
        raise BadInput(f"{table.path}: no split '{wanted}'{did_you_mean(wanted, there)}; it has {listed}")
    return chosen, wanted


def _workers(metrics: list[str], items: int) -> int:
    # A worker takes seconds to start; only BSS-eval (0.1 s and more per item) on many items pays that back.
    heavy = {"sdr", "sdri", "sir", "sar"} & set(metrics)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 16) if heavy and cores > 1 and (items == 0 or items >= 50) else 0


def _tracker(quiet: bool) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    from usepcli.report.progress import progress

    return lambda items, total: progress(items, total, desc="scoring", unit="item", quiet=quiet)


def _report(record: dict[str, Any], folder: Path, as_json: bool, say: Callable[[str], None]) -> None:
    from usepcli.engine import scoring, tables

    for reason, count in record["reasons"].items():
        say(f"{count} of {record['rows']} rows: {reason}")
    if as_json:
        options.report({**record, "out": str(folder)}, True)
    else:
        typer.echo(tables.render(record["summary"], scoring.SUMMARY_COLUMNS))
    say(f"{record['items']} items, {record['rows']} sources; written: {folder}")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _quiet(line: str) -> None:
    del line
