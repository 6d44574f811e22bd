"""`usep remix`: other gains for the sources of a recording, or other company for the sources of many."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import PartialFailure, UsageError

if TYPE_CHECKING:
    from usepcli.engine.mixing.run import Mixed
    from usepcli.engine.pseudo.pseudo_set import Shuffled


def complete_peak(incomplete: str) -> list[str]:
    """Return what can keep the peak, as far as it starts with `incomplete`."""
    return [kind for kind in ("gain", "limit") if kind.startswith(incomplete)]


def complete_kind(incomplete: str) -> list[str]:
    """Return the shuffles whose names start with `incomplete`."""
    return [kind for kind in ("constrained", "cyclic", "free") if kind.startswith(incomplete)]


def remix(
    ctx: typer.Context,
    out: options.Out,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|STEM...|DIR|outputs.csv",
            help="One file to separate, or its sources: stems, a folder of them, the list that separate wrote.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - Typer copies it
    gain: Annotated[
        list[str], typer.Option("--gain", metavar="NAME=dB", help="Gain of a source, by name or number.")
    ] = [],  # noqa: B006 - Typer copies it
    mute: Annotated[
        list[str], typer.Option("--mute", metavar="NAME", help="Leave a source out, by name or number.")
    ] = [],  # noqa: B006 - Typer copies it
    pan: Annotated[
        list[str],
        typer.Option("--pan", metavar="NAME=-1..1", help="Balance of a source, left to right; mono becomes stereo."),
    ] = [],  # noqa: B006 - Typer copies it
    automation: Annotated[
        Path | None,
        typer.Option(
            "--automation", metavar="CSV", show_default=False,
            help="Gains over time: columns time (s), source, gain (dB, -inf mutes); added to --gain.",
        ),
    ] = None,
    file: Annotated[
        str, typer.Option("--file", metavar="NAME", help="The recording to take from an outputs.csv of several.")
    ] = "",
    lufs: Annotated[
        float | None, typer.Option("--lufs", help="Loudness of the result in LUFS, e.g. -23.", show_default=False)
    ] = None,
    true_peak: Annotated[
        float | None,
        typer.Option("--true-peak", help="Highest true peak of the result in dBTP, e.g. -1.", show_default=False),
    ] = None,
    peak: Annotated[
        str,
        typer.Option(
            "--peak", help="What keeps the peak: one gain on the whole, or limit, a limiter (to -1 dBTP unless said).",
            autocompletion=complete_peak,
        ),
    ] = "gain",
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m",
            help="Separate the one FILE, or the mixtures of --shuffle, with this model first; for a FILE whose "
            "sources are named: default, or words_small where a name is words.",
            autocompletion=options.complete_model, show_default=False,
        ),
    ] = None,
    always: Annotated[
        bool, typer.Option("--always", help="Of a model by query: mix what was found even where it is judged absent.")
    ] = False,
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
    engine: options.Engine = "torch",
    shard: options.Shard = "",
    merge: options.Merge = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Mix stems or separated sources with other gains, or shuffle the sources of a set into new mixtures.

    Without gains the result is exact: stems of one integer format add up to the integer, a file comes back
    byte by byte. If the result would clip, or pass --true-peak, it is turned down as a whole, or limited with
    --peak limit; gain, reduction, loudness and peaks before and after are printed. A source is named by its
    stem, its name in outputs.csv (there the gain that separate wrote with is undone), or its number from 1.
    A pan turns the far channel down by cos(90 degrees x pan) and leaves the near one: 0 changes nothing.
    Of a --model by query the names are what it is asked for, in quotes for the shell, and `residual` is all the rest;
    what is judged absent stays as it is, and that is said.

    --shuffle writes pseudo-mixtures with their sources and a manifest into the folder --out, as training by
    remixing makes them: sources change places between mixtures, each the --model's output, or without a model
    the manifest's reference. Whole mixtures meet others of similar length and end in silence where they are
    shorter. With --normalize mixtures have 0.1 rms before the shuffle (where the model brings them to a level of
    its own); what would clip is turned down as a whole. One seed gives one set, and the same command goes on
    after an interruption. With --shard several jobs make one set; the same command without it, or with --merge, then
    writes its manifest. Exit 4: some mixtures could not be used, see the column reason in remix.csv.

    \b
    Examples:
      usep remix meeting.wav --gain 1=-6 --gain 2=3 --lufs -23 --true-peak -1 -o meeting_new.wav
      usep remix separated/outputs.csv --file meeting.wav --mute 2 -o first.wav
      usep remix park.wav --model NAME --gain "dog barking"=-12 --pan "birds singing"=0.5 -o calm.wav
      usep remix song/stems --pan guitar=-0.3 --automation rides.csv --peak limit -o song.flac
      usep remix --shuffle data/mine --model runs/small_mixit --seconds 4 --rounds 3 -o data/pseudo
    """
    asked = dict(locals())
    from usepcli.engine.mixing import run as mixing
    from usepcli.engine.pseudo import run as pseudo

    _check(options.given(ctx), asked, mixing.mix, pseudo.shuffle)
    if shuffle is None:
        mine = options.fitting(mixing.mix, asked)
        _print(mixing.mix(**mine, say=options.say), as_json)
    else:
        mine = options.fitting(pseudo.shuffle, asked)
        done = pseudo.shuffle(shuffle, **mine, say=options.say)
        options.tell_shard(shard, quiet or dry_run)
        _tell(done, as_json)


def _check(given: set[str], asked: Mapping[str, Any], mix: Callable[..., Any], shuffle: Callable[..., Any]) -> None:
    """UsageError unless the options given belong to one form of the command."""
    of_gains, of_sets = (set(options.fitting(form, asked)) for form in (mix, shuffle))
    names = [name for name in asked if name in given]
    if asked["shuffle"] is None:
        foreign = [name for name in names if name in of_sets - of_gains]
        if foreign:
            raise UsageError(
                f"{_flag(foreign[0])} belongs to --shuffle MANIFEST; name the set, or leave the option out"
            )
        return
    if asked["inputs"]:
        raise UsageError(f"--shuffle takes its mixtures from the manifest; leave {asked['inputs'][0]} out")
    foreign = [name for name in names if name in of_gains - of_sets]
    if "engine" in foreign:
        raise UsageError(
            "--engine belongs to the separation of one recording; with --shuffle torch computes, leave it out"
        )
    if foreign:
        raise UsageError(f"{_flag(foreign[0])} has no meaning with --shuffle: all sources keep their levels")
    if asked["model"] is not None and "residual" in given:
        raise UsageError("--residual belongs to listed sources: the outputs of a --model add up to the mixture")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _tell(done: Shuffled, as_json: bool) -> None:
    """Print what a shuffled set holds; PartialFailure where some mixtures could not be used."""
    options.report(done.facts(), as_json)
    if done.unusable:
        name, reason = next(iter(done.unusable.items()))
        raise PartialFailure(
            f"{len(done.unusable)} mixtures could not be used and were left out, e.g. {name}: {reason}; "
            f"all of them are in {done.out / 'remix.csv'}"
        )


def _print(done: Mixed, as_json: bool) -> None:
    """Print what was done, with the levels before and after."""
    if done.record is None:
        options.report(_finite(done.planned) if as_json else done.planned, as_json)
        return
    facts = asdict(done.record)
    if as_json:
        typer.echo(json.dumps(_finite(facts), ensure_ascii=False))
        return
    from usepcli.engine import tables

    table = [
        {"": when, **{unit: facts.pop(f"{name}_{when}") for name, unit in _UNITS.items()}}
        for when in ("before", "after")
    ]
    options.report({name: value for name, value in facts.items() if value or name == "gain_db"})
    typer.echo(tables.render(table))


_UNITS = {"lufs": "LUFS", "true_peak": "dBTP", "peak": "peak dBFS"}


def _finite(value: Any) -> Any:
    """Return a value for JSON, which knows neither infinity nor nan: silence and "too short" become null."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
