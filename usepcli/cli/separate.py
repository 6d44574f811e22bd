"""`usep separate`: one file per source from any recording."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import PartialFailure, UsepError

if TYPE_CHECKING:
    from usepcli.engine.jobs import Job
    from usepcli.engine.separate import Separator, Watch
    from usepcli.engine.separate_files import Record


def separate(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|DIR|GLOB...", help="Sound files, folders (their tree is kept) or quoted patterns."
        ),
    ],
    out: options.Out,
    model: options.ModelOpt = "default",
    name: Annotated[str, typer.Option("--name", help="File names of the outputs.")] = "{stem}_{i}",
    form: Annotated[str, typer.Option("--format", help="wav, flac, ogg, mp3, aiff, w64 or caf.")] = "wav",
    subtype: Annotated[
        str,
        typer.Option("--subtype", help="Sample format, e.g. PCM_24 or FLOAT; by default the input's own."),
    ] = "",
    chunk_s: Annotated[float, typer.Option("--chunk-s", min=1.0, help="Seconds that the model sees at once.")] = 10.0,
    device: options.Device = "auto",
    threads: options.Threads = 0,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Separate recordings into their sources.

    Outputs have the input's rate, channels and exact length. Memory does not grow with the length. Where
    integer outputs would clip, all sources of a file get one common gain, which is reported. A recording
    sampled faster than the model is resampled both ways; its sources then end at half the model's rate. Files
    that fail are named on stderr and the rest goes on (exit code 4).

    \b
    Examples:
      usep separate meeting.wav -o separated
      usep separate recordings/ talk.mp3 -o separated --format flac --json
    """
    from usepcli.engine import jobs
    from usepcli.engine.separate import Separator
    from usepcli.engine.separate_files import separate_files

    sources = jobs.find_sources(inputs, out)
    separator = Separator.load(model, device, threads, chunk_s)
    plan = jobs.plan(
        sources,
        out,
        separator.n_src,
        name=name,
        form=form.lower().lstrip("."),
        subtype=subtype.upper(),
        overwrite=overwrite,
    )
    if dry_run:
        options.listing([{"file": str(j.source), "outputs": [str(p) for p in j.outputs]} for j in plan], as_json)
        return
    faults: list[UsepError] = []

    def failed(job: Job, fault: UsepError) -> None:
        faults.append(fault)
        if len(plan) > 1:
            _say(f"usep: error: {fault}")

    records: list[Record] = []
    watch = _watch(quiet)
    try:
        for record in separate_files(separator, plan, overwrite=overwrite, watch=watch, failed=failed):
            _note(record, separator, quiet, records)
            records.append(record)
            if as_json:  # at once: a batch may run for days
                typer.echo(json.dumps(asdict(record), ensure_ascii=False))
    finally:
        if not as_json:
            _print(records)
    if faults:
        if len(plan) == 1:
            raise faults[0]
        raise PartialFailure(f"{len(faults)} of {len(plan)} files failed (named above); the others are done")


def _watch(quiet: bool) -> Watch:
    from usepcli.report.progress import progress

    return lambda blocks, total, name: progress(blocks, total, desc=name, unit="block", quiet=quiet)


def _note(record: Record, separator: Separator, quiet: bool, before: list[Record]) -> None:
    """Say on stderr what a listener should know about this file: band limit and gain."""
    if record.gain_db:
        _say(f"{record.file}: all sources turned down by {-record.gain_db:.2f} dB so that none clips")
    if record.missing_s:
        _say(f"{record.file}: {record.missing_s:g} s shorter than its header says; separated what is there")
    if not quiet and record.rate > separator.rate and all(r.rate != record.rate for r in before):
        _say(
            f"{record.file}: {record.rate} Hz, but the model works at {separator.rate} Hz: its sources hold "
            f"(and add up to) what lies below {separator.rate / 2000:g} kHz only"
        )


def _print(records: list[Record]) -> None:
    from usepcli.engine import tables

    rows: list[dict[str, Any]] = [
        {
            "file": record.file,
            "first output": record.outputs[0],
            "sources": len(record.outputs),
            "seconds": record.duration_s,
            "rate": record.rate,
            "channels": record.channels,
            "gain dB": record.gain_db,
            "x real time": record.rtf,
        }
        for record in records
    ]
    if rows:
        typer.echo(tables.render(rows))


def _say(text: str) -> None:
    sys.stderr.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
