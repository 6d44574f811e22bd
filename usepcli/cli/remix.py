"""`usep remix`: other gains for the sources of a recording, or other company for the sources of many."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usepcli.cli import _options as options
from usepcli.errors import UsageError

if TYPE_CHECKING:
    from usepcli.engine.remix import Remix
    from usepcli.engine.separate import Separator, Watch


def complete_kind(incomplete: str) -> list[str]:
    """Return the shuffles whose names start with `incomplete`."""
    return [kind for kind in ("constrained", "cyclic", "free") if kind.startswith(incomplete)]


def remix(
    ctx: typer.Context,
    out: options.Out,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="STEM...|FILE", help="Stems, or with --model one file.", show_default=False)
    ] = [],  # noqa: B006 - Typer copies it
    gain: Annotated[
        list[str], typer.Option("--gain", metavar="NAME=dB", help="Gain of a source, by stem name or number.")
    ] = [],  # noqa: B006 - Typer copies it
    mute: Annotated[
        list[str], typer.Option("--mute", metavar="NAME", help="Leave a source out, by stem name or number.")
    ] = [],  # noqa: B006 - Typer copies it
    lufs: Annotated[
        float | None, typer.Option("--lufs", help="Loudness of the result in LUFS, e.g. -23.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Separate the one FILE, or the mixtures of --shuffle, with this model first.",
            autocompletion=options.complete_model, show_default=False,
        ),
    ] = None,
    subtype: Annotated[
        str,
        typer.Option(
            "--subtype", help="Sample format, e.g. PCM_24; by default the input's own, FLOAT with --shuffle."
        ),
    ] = "",
    shuffle: Annotated[
        Path | None,
        typer.Option(
            "--shuffle", metavar="MANIFEST", help="In place of STEMs: shuffle the sources of these mixtures.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind", help="constrained (no two sources of one mixture meet again), free or cyclic. [--shuffle]",
            autocompletion=complete_kind,
        ),
    ] = "constrained",
    channel_shuffle: Annotated[
        bool,
        typer.Option(
            "--channel-shuffle/--no-channel-shuffle", help="Shuffle the sources within each mixture before. [--shuffle]"
        ),
    ] = True,
    n_remix: Annotated[
        int,
        typer.Option("--n-remix", min=0, help="Take the strongest K outputs of the model; 0 takes all. [--shuffle]"),
    ] = 0,
    residual: Annotated[
        bool,
        typer.Option(
            "--residual/--no-residual",
            help="Without a model: what the listed sources leave of a mixture is one more. [--shuffle]",
        ),
    ] = True,
    batch: Annotated[
        int, typer.Option("--batch", min=2, help="Mixtures that are shuffled together. [--shuffle]")
    ] = 16,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Shuffle the whole set N times, differently. [--shuffle]")
    ] = 1,
    split: Annotated[
        str, typer.Option("--split", help="One split of the manifest; by default all, each by itself. [--shuffle]")
    ] = "",
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0,
            help="Cut a random segment of this length, pad shorter mixtures; 0 takes them whole. [--shuffle]",
        ),
    ] = 0.0,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize/--no-normalize", help="Bring every mixture to the model's level before. [--shuffle]"
        ),
    ] = True,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = 0,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Mix stems or separated sources with other gains, or shuffle the sources of a set into new mixtures.

    Without gains the result is exact: stems of one integer format add up to the integer, a file comes back
    sample by sample. If the result would clip it is turned down as a whole, and the gain is reported.

    --shuffle writes pseudo-mixtures with their sources and a manifest into the folder --out, as training by
    remixing makes them: sources change places between mixtures, each the --model's output, or without a model
    the manifest's reference. Whole mixtures meet others of similar length and end in silence where they are
    shorter. With --normalize mixtures have 0.1 rms before the shuffle (where the model brings them to a level of
    its own); what would clip is turned down as a whole. One seed gives one set, and the same command goes on
    after an interruption. Exit 4: some mixtures could not be used, see the column reason in remix.csv.

    \b
    Examples:
      usep remix separated/meeting_1.wav separated/meeting_2.wav --gain meeting_1=-6 -o softer.wav
      usep remix meeting.wav --model default --mute 2 --lufs -23 -o first.wav
      usep remix --shuffle data/mine --model runs/small_mixit --seconds 4 --rounds 3 -o data/pseudo
    """
    from usepcli.cli import _remix_shuffle as sets

    sets.check(ctx)
    if shuffle is not None:
        sets.run(ctx)
        return
    from usepcli.engine import remix as engine

    if model is not None and len(inputs) != 1:
        raise UsageError(f"--model takes one file to separate, found {len(inputs)}; leave --model out to sum stems")
    if lufs is not None and not -70 <= lufs <= 0:
        raise UsageError(f"--lufs: found {lufs:g}; expected a loudness between -70 and 0 LUFS")
    info = engine.check_stems(inputs)
    wanted = subtype.upper()
    form = engine.check_output(out, info, inputs, wanted, overwrite)
    separator = _load(model, device, threads)
    names = [str(k + 1) for k in range(separator.n_src)] if separator else [path.stem for path in inputs]
    gains = engine.parse_gains(names, gain, mute)
    if dry_run:
        options.report({"output": str(out), "subtype": form, "gains_db": engine.decibels(names, gains)}, as_json)
        return
    record = engine.remix(
        inputs,
        out,
        names,
        gains,
        separator=separator,
        subtype=wanted,
        lufs=lufs,
        overwrite=overwrite,
        watch=_watch(quiet),
    )
    _note(record, lufs)
    _print(record, as_json)


def _load(model: str | None, device: str, threads: int) -> Separator | None:
    if model is None:
        return None
    from usepcli.engine.separate import Separator

    return Separator.load(model, device, threads)


def _watch(quiet: bool) -> Watch:
    from usepcli.report.progress import progress

    return lambda blocks, total, name: progress(blocks, total, desc=name, unit="block", quiet=quiet)


def _note(record: Remix, lufs: float | None) -> None:
    """Say on stderr where the result is not what was asked for, or was turned down."""
    if lufs is None:
        if record.gain_db:
            sys.stderr.write(f"{record.output}: turned down by {-record.gain_db:.2f} dB so that nothing clips\n")
    elif not math.isfinite(record.lufs_after):
        why = "shorter than 0.4 s" if math.isnan(record.lufs_after) else "silent"
        sys.stderr.write(f"{record.output}: {why}, so its loudness was left as it is\n")
    elif abs(record.lufs_after - lufs) > 0.1:
        sys.stderr.write(f"{record.output}: {record.lufs_after:.1f} LUFS instead of {lufs:g}: more would clip\n")


def _print(record: Remix, as_json: bool) -> None:
    facts = asdict(record)
    if as_json:
        # JSON knows neither infinity nor nan: silence and "too short" become null.
        facts = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}
        facts["gains_db"] = {k: v if math.isfinite(v) else None for k, v in record.gains_db.items()}
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        options.report(facts)
