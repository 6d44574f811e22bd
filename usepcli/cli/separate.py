"""`usep separate`: one file per source from any recording."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import UsageError

if TYPE_CHECKING:
    from usepcli.engine.separation.record import Record, Track

_LIVE = ("live", "samples", "pipes", "block_ms")  # options of streams alone
_Name = typer.Option("--name", help="File names of the outputs: {i} is the source, {ext} and {folder} the input's own.")
_Channels = typer.Option(
    "--channels",
    help="linked: one decision for all channels, the image stays; each: channel by channel; mix or first: one channel.",
    autocompletion=options.among("linked", "each", "mix", "first"),
)
_Rest = typer.Option(
    "--rest",
    help="What the sources lack of the input, mainly what lies above the model's band. share: it goes to the sources "
    "in proportion, so that they add up to the input; leave: it is left out. Default: share; with --query --residual.",
    autocompletion=options.among("share", "leave"),
)
_Sources = typer.Option(
    "--sources",
    help="all: write every source; auto: leave out those that are near-silent or have little of their own, and say so.",
    autocompletion=options.among("all", "auto"),
)
_Format = typer.Option(
    "--format",
    help="wav, flac, ogg, mp3, aiff, w64 or caf.",
    autocompletion=options.among("wav", "flac", "ogg", "mp3", "aiff", "w64", "caf"),
)
_Subtype = typer.Option(
    "--subtype",
    help="Sample format, e.g. PCM_24 or FLOAT; by default the input's own.",
    autocompletion=options.among("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
)
_Clip = typer.Option(
    "--clip",
    help="Where integer outputs would clip: one gain for all sources, error, or allow.",
    autocompletion=options.among("gain", "error", "allow"),
)
_Figure = typer.Option(
    "--figure",
    metavar="png|svg",
    help="Also draw {stem}_figure.png or .svg for print, per recording.",
    autocompletion=options.among("png", "svg"),
)


_Pcm = typer.Option(
    "--pcm",
    metavar="RATE[:CHANNELS[:FORMAT]]",
    help="With --live: what samples without a header are (1 channel, s16le unless said), or what mic: is asked for.",
)
_Pipes = typer.Option(
    "--pipe",
    metavar="SOURCE=PIPE",
    help="With --live: give a source, or all as channels, to a pipe or - (standard output), as raw samples.",
)
_Block = typer.Option(
    "--block-ms",
    min=0.0,
    help="With --live: milliseconds of sound that are waited for; 0 is about 10. What has come since is taken at once.",
)


def separate(
    ctx: typer.Context,
    out: options.Out,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|DIR|GLOB...|-",
            help="Sound files, folders, quoted patterns (their tree is kept) and tar files, or - for standard input.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - Typer copies it
    files_from: Annotated[
        str,
        typer.Option("--files-from", metavar="LIST", help="File of paths, one per line; - for standard input."),
    ] = "",
    null: Annotated[bool, typer.Option("--null", "-0", help="Paths in LIST end in NUL, as from find -print0.")] = False,
    model: options.ModelOpt = None,
    channels: Annotated[str, _Channels] = "linked",
    queries: Annotated[
        list[str],
        typer.Option(
            "--query",
            "-Q",
            metavar="WORDS",
            help="What a model by query is asked for, once for each sound; the rest is one more file, residual.",
        ),
    ] = [],  # noqa: B006
    like: Annotated[
        list[Path],
        typer.Option("--like", metavar="CLIP", help="Ask by example: a clip of what is meant, for models that hear."),
    ] = [],  # noqa: B006
    without: Annotated[
        list[str],
        typer.Option(
            "--without", metavar="WORDS", help="Take this out. Alone: the rest is the input without it, and named so."
        ),
    ] = [],  # noqa: B006
    caption: Annotated[
        str | None,
        typer.Option("--caption", metavar="WORDS", help="Ask for each phrase of a caption; they are listed first."),
    ] = None,
    always: Annotated[
        bool, typer.Option("--always", help="Write what was found for a query that is judged absent, not silence.")
    ] = False,
    rest: Annotated[str, _Rest] = "",
    residual: Annotated[
        bool, typer.Option("--residual", help="Write that rest as one more file, {stem}_residual, instead.")
    ] = False,
    sources: Annotated[str, _Sources] = "all",
    keep: Annotated[
        str, typer.Option("--keep", metavar="1,3", help="Write these sources only, by number or name.")
    ] = "",
    two_stems: Annotated[
        str, typer.Option("--two-stems", metavar="SOURCE", help="Write this source, and all others as one: no_SOURCE.")
    ] = "",
    name: Annotated[str, _Name] = "{stem}_{i}",
    form: Annotated[str, _Format] = "wav",
    subtype: Annotated[str, _Subtype] = "",
    clip: Annotated[str, _Clip] = "gain",
    report: Annotated[bool, typer.Option("--report", help="Also make a page to see and hear, report.html.")] = False,
    figure: Annotated[str, _Figure] = "",
    labels: Annotated[
        str,
        typer.Option(
            "--labels", metavar="rttm|audacity|csv", help="Also write when each source sounds, per recording."
        ),
    ] = "",
    chunk_s: Annotated[
        float, typer.Option("--chunk-s", min=0.0, help="Seconds that the model sees at once; 0: what it needs.")
    ] = 0.0,
    overlap: Annotated[
        float,
        typer.Option("--overlap", min=0.0, max=0.5, help="Share of a chunk that the next one hears too; 0: 2 s."),
    ] = 0.0,
    shifts: Annotated[
        int,
        typer.Option("--shifts", min=1, max=100, help="Hear every chunk N times, shifted, and average: N x the time."),
    ] = 1,
    speeds: Annotated[
        int,
        typer.Option("--speeds", min=1, max=5, help="Hear every chunk at N speeds, and average: N x the time."),
    ] = 1,
    track: Annotated[
        int,
        typer.Option("--track", min=0, metavar="N", help="Which track of sound of a film, from 1; 0 takes the first."),
    ] = 0,
    device: options.Device = "auto",
    threads: options.Threads = 0,
    engine: options.Engine = "torch",
    overwrite: options.Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Skip files that outputs.csv says are done.")
    ] = True,
    shard: options.Shard = "",
    merge: options.Merge = False,
    live: Annotated[
        bool, typer.Option("--live", help="Separate while the sound comes in: from -, a pipe or a microphone (mic:).")
    ] = False,
    samples: Annotated[str, _Pcm] = "",
    pipes: Annotated[list[str], _Pipes] = [],  # noqa: B006
    block_ms: Annotated[float, _Block] = 0.0,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first file that fails.")] = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Separate recordings into their sources.

    Outputs have the input's rate, channels and exact length, and add up to the input; stderr says how closely. That
    says nothing of how well they are separated: `usep info MODEL` tells what a model was trained for.
    Memory does not grow with the length. Where integer outputs would clip, all sources of a file get one common
    gain, which is reported. What the model cannot hear because the recording is sampled faster is dealt with by
    --rest.

    The output folder gets outputs.csv (every file written: hash, gain, loudness, activity), seams.csv (the joins
    of long recordings, with confidence) and errors.csv (what failed). The same command again does only what is
    missing: a file is done if its outputs are there, made with the same settings from the same input. Files that
    fail, have changed, or have outputs of other settings are named on stderr and the rest goes on (exit code 4);
    with --overwrite the same command makes these again. One run at a time may use a folder, or one per --shard,
    whose files are chosen by name; the next run without it, or with --merge, takes their tables together.

    A model by query separates what --query asks for: one file for each query, named by its words, and
    {stem}_residual for all the rest, which add up to the input; an answer is the same whatever else is asked.
    --without asks for what is to go: alone, the rest is {stem}_without_WORDS; beside --query it has a file of its own,
    and the residual lacks it. outputs.csv has the words in its column query, and in presence the chance that it is
    there, once for the whole file: 0.5 is as likely as not. Below, the file is silent, and what was found stays in the
    residual. Models that were never calibrated do not judge, and say so. With --rest share nothing is silenced.

    What an outputs.csv in the folder of a file, or above it, names as an output is no input: it is skipped, however
    it is named, and so is the sound of report pages. Only one output named alone, with the -o of another folder, is
    separated again; copies in a folder without that table are recordings like any other.

    --engine has the network computed by another runtime, from a graph that is written once, compared with torch and
    kept in the folder of pulled models: the same sources, often sooner (onnx: usepcli[export], openvino:
    usepcli[openvino]). openvino-bf16 computes in bfloat16 where the processor does, and prints how far it is off in dB.

    With --live one stream is separated while it comes in, by a causal model (`usep info MODEL` says live: true): a
    WAV stream of any length, raw samples (--pcm), or mic:, mic:2, mic:USB (pip install 'usepcli[live]'). Levels stay as
    they are and channels go one by one. Files are FLOAT unless --subtype says other, since no gain that fits is known
    before the end, and are whole at every moment, for half a second before a kill. -o - or -o PIPE gives the sources
    as channels of raw samples, in the input's format, --keep 1 one of them. Latency, work and late blocks are printed
    and stand in outputs.csv. Ctrl-C ends a stream as its end would.

    \b
    Examples:
      usep separate meeting.wav -o separated
      usep separate recordings/ talk.mp3 -o separated --format flac --json
      usep separate interview.wav -o separated --report --sources auto
      usep separate street.wav --query "a dog barking" -Q rain -o separated
      usep separate talk.wav --without wind -o clean
      usep separate park.wav --caption "a dog barks while children play" -o separated
      find . -name '*.wav' -print0 | usep separate --files-from - -0 -o separated
      usep separate mic: --live -o talk --pipe 1=- | aplay -t raw -f FLOAT_LE -r 16000
      ffmpeg -i call.webm -ac 1 -f wav - | usep separate - --live -o call
      arecord -t raw -f S16_LE -r 16000 | usep separate - --live --pcm 16000 --keep 1 -o - > one.pcm
      sbatch --array=1-8 --wrap 'usep separate recordings/ -o separated --shard slurm'
    """
    asked = dict(locals())
    if live or options.given(ctx) & set(_LIVE):
        _live(ctx, asked)
        return
    from usepcli.engine.separation import run

    records: list[Record] = []

    def done(record: Record) -> None:
        records.append(record)
        if as_json:
            typer.echo(json.dumps(record.facts(), ensure_ascii=False))

    try:
        found = run.separate(**options.but(asked, "ctx", "as_json", *_LIVE), done=done, say=options.say)
    finally:
        if not as_json:
            _table(records)
        if records:
            options.tell_shard(shard, quiet or dry_run)
    if dry_run:
        options.listing(found.planned, as_json)
        if found.failure:
            raise found.failure


def _live(ctx: typer.Context, asked: dict[str, Any]) -> None:
    """Separate one stream, and print what became of it where standard output is not taken by its sound."""
    from usepcli.engine.separation import live

    known = options.fitting(live.separate_live, asked)
    fit = {*known, "live", "as_json"}
    if foreign := [param for param in ctx.command.params if param.name in options.given(ctx) - fit]:
        raise UsageError(f"{foreign[0].opts[0]}: takes whole recordings, which --live has not; leave it out")
    if not asked["live"]:
        raise UsageError("--pcm, --pipe and --block-ms say how a stream is heard; add --live, or leave them out")
    sound = str(asked["out"]) == "-" or any(pipe.endswith("=-") for pipe in asked["pipes"])
    if asked["as_json"] and sound:
        raise UsageError("--json: standard output carries the sound; leave it out: outputs.csv has the figures")
    records: list[Record] = []
    try:
        found = live.separate_live(**known, done=records.append, say=options.say)
    finally:
        if not sound:
            for record in records:
                if asked["as_json"]:
                    typer.echo(json.dumps(record.facts(), ensure_ascii=False))
            if not asked["as_json"]:
                _live_table(records)
    if asked["dry_run"]:
        options.listing(found.planned, asked["as_json"])


def _live_table(records: Sequence[Record]) -> None:
    """Print what was heard on stdout."""
    from usepcli.engine import tables
    from usepcli.files import show

    rows: list[dict[str, Any]] = [
        {
            "file": show(record.file),
            "first output": show(record.outputs[0]) if record.written else None,
            "sources": len(record.outputs),
            "seconds": record.duration_s,
            "latency ms": 1e3 * (record.pacing.latency_s + record.pacing.block_s),
            "work ms": record.pacing.p50_ms,
            "p99": record.pacing.p99_ms,
            "late": record.pacing.underruns,
            "x real time": record.rtf,
        }
        for record in records
        if record.pacing
    ]
    if rows:
        typer.echo(tables.render(rows))


def _table(records: Sequence[Record]) -> None:
    """Print what was separated on stdout."""
    if not records:
        return
    from usepcli.engine import tables
    from usepcli.files import show

    rows: list[dict[str, Any]] = [
        {
            "file": show(record.file),
            "first output": show(record.outputs[0]),
            "sources": len(record.outputs),
            "seconds": record.duration_s,
            "rate": record.rate,
            "channels": record.channels,
            "gain dB": record.gain_db,
            "null dB": record.null_db,
            "x real time": record.rtf,
        }
        for record in records
    ]
    typer.echo(tables.render(rows))
    asked = [(record, track) for record in records for track in record.tracks if track.query]
    if not asked:
        return
    typer.echo()
    typer.echo(tables.render([_presence(record, track) for record, track in asked]))


def _presence(record: Record, track: Track) -> dict[str, Any]:
    """Return what is told of a query: its words, whether what they name is there, and how loud the answer is."""
    from usepcli.files import show

    odds = "not calibrated" if math.isnan(track.presence) else f"{track.presence:.2f}"
    judged = "" if math.isnan(track.presence) else "present" if track.presence >= 0.5 else "absent"
    return {
        "file": show(record.file),
        "query": show(track.query),
        "presence": odds,
        "judged": judged,
        "dBFS": track.level_db,
    }
