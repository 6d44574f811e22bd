"""Options that several commands share: spelled once, the same help and completion everywhere."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from inspect import cleandoc, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from usepcli import registry
from usepcli.cli import _help
from usepcli.device import MOST_THREADS
from usepcli.files import show
from usepcli.profile import find
from usepcli.report import layout
from usepcli.weights import reach


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in sorted(names) if name.startswith(incomplete)]


def complete_profile(incomplete: str) -> list[str]:
    """Return the profile names in reach that start with `incomplete`."""
    return _starting(find.paths(), incomplete)


def complete_model(incomplete: str) -> list[str]:
    """Return the models in reach whose names start with `incomplete`, or with what follows its last +."""
    before, joint, last = incomplete.rpartition(reach.JOINT)
    return [f"{before}{joint}{name}" for name in _starting(reach.named(reach.files(reach.shipped_folder())), last)]


def complete_metric(incomplete: str) -> list[str]:
    """Return the metrics whose names start with `incomplete`, those of whole sets among them."""
    return _starting([*registry.METRICS, "momi", "presence", "wer"], incomplete)


def complete_corpus(incomplete: str) -> list[str]:
    """Return the corpora whose names start with `incomplete`."""
    return _starting(registry.CORPORA, incomplete)


def among(*names: str) -> Callable[[str], list[str]]:
    """Return the completion of an option that takes one of these words."""
    return lambda incomplete: _starting(names, incomplete)


def model_argument(help: str) -> Any:
    """Return the argument MODEL of a command, with its completion."""
    return typer.Argument(metavar="MODEL", help=help, autocompletion=complete_model, show_default=False)


_MODEL_HELP = "Model by name (see: usep models), .safetensors file or run folder."
Out = Annotated[Path, typer.Option("--out", "-o", help="Where the output goes.", show_default=False)]
ProfileOpt = Annotated[
    str,
    typer.Option(
        "--profile",
        "-p",
        help="Profile name (see: usep profiles) or path of a .yaml file.",
        autocompletion=complete_profile,
        show_default=False,
    ),
]
Sets = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Set one profile key, e.g. train.epochs=3; may be repeated."),
]
ModelOpt = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Model by name (see: usep models), .safetensors or .onnx file, or run folder; a+b: the mean of both. "
        "Without one: default, with --live the model live, for a query words_small.",
        autocompletion=complete_model,
        show_default=False,
    ),
]
ModelArg = Annotated[str, model_argument(_MODEL_HELP)]
Metrics = Annotated[
    list[str],
    typer.Option("--metric", help="Metric by name; may be repeated.", autocompletion=complete_metric),
]
Corpus = Annotated[
    str,
    typer.Option("--corpus", help="Kind of source material.", autocompletion=complete_corpus, show_default=False),
]
Heard = Annotated[
    str,
    typer.Option(
        "--channels",
        metavar="each|first|mix",
        help="Of files with several channels: each by itself, the first, or their mean (mix).",
        autocompletion=among("each", "first", "mix"),
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=among("auto", "cpu", "cuda", "mps")
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything drawn at random.")]
Workers = Annotated[
    int, typer.Option("--workers", min=0, max=MOST_THREADS, help="Parallel processes; 0 decides by itself.")
]
Threads = Annotated[
    int, typer.Option("--threads", min=0, max=MOST_THREADS, help="Threads of the computation; 0 decides by itself.")
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="What computes the network: torch; onnx or openvino, the same numbers; openvino-bf16, coarser.",
        autocompletion=among("torch", "onnx", "openvino", "openvino-bf16"),
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do only share I of N, beside the other shares in one folder; slurm: that of SLURM_ARRAY_TASK_ID.",
        show_default=False,
    ),
]
Merge = Annotated[bool, typer.Option("--merge", help="Only take together what all --shard runs have left.")]
Licence = Annotated[
    str,
    typer.Option("--licence", help="Licence of the training data, where the file states none.", show_default=False),
]
LicenceWeights = Annotated[
    str,
    typer.Option(
        "--licence-weights", help="Licence of the weights, where nothing states it or it is wrong.", show_default=False
    ),
]
LicenceCode = Annotated[
    str,
    typer.Option("--licence-code", help="Licence of the maker's code; empty: the known one.", show_default=False),
]
TrainingData = Annotated[
    str,
    typer.Option("--training-data", help="What it learned from, where the file does not say.", show_default=False),
]
SampleRate = Annotated[int, typer.Option("--sample-rate", min=0, help="Rate in Hz, where the file states none (0).")]
TextEncoder = Annotated[
    str,
    typer.Option(
        "--text-encoder",
        help="Folder of the tokenizer, or of a CLAP, for a model by words.",
        show_default=False,
    ),
]
FitLevel = Annotated[
    bool, typer.Option("--fit-level", help="Bring the sum of the outputs to the level of the input, by one gain.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]


def but(asked: Mapping[str, Any], *own: str) -> dict[str, Any]:
    """Return the options of a command for the function beneath it: all but those that are the command's own.

    A command begins with `asked = dict(locals())`, so that no option is written down twice.
    """
    return {name: value for name, value in asked.items() if name not in own}


def fitting(function: Callable[..., Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of a command with several functions beneath it that one of them takes."""
    return {name: asked[name] for name in signature(function).parameters if name in asked}


def given(ctx: typer.Context) -> set[str]:
    """Return the names of the options that the command line names, whatever their values."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def say(line: str) -> None:
    """Write a line to stderr; bytes that are no letters, and what steers a terminal, appear as backslash escapes."""
    sys.stderr.write(show(line) + "\n")


def merging() -> str:
    """Return this command line with --merge in place of its --shard."""
    words = list(sys.argv[1:])
    while "--shard" in words:
        at = words.index("--shard")
        del words[at : at + 2]
    return shlex.join(["usep", *(word for word in words if not word.startswith("--shard=")), "--merge"])


def tell_shard(shard: str, quiet: bool) -> None:
    """Say at the end of a share how those of all shares come together."""
    if shard and not quiet:
        say(f"when all shards are done: {merging()} (without --merge, what is missing is done too)")


def hushed(quiet: bool) -> Callable[[str], None]:
    """Return `say`, or with --quiet what says nothing."""
    return (lambda line: None) if quiet else say


@contextmanager
def silence(quiet: bool) -> Iterator[None]:
    """With --quiet, let nothing that is written to stderr inside appear: progress is no business of a caller there."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield


def group(help: str) -> typer.Typer:
    """Return a command that consists of commands; its help is given as a docstring would be."""
    made = typer.Typer(
        cls=_help.Group,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        help=cleandoc(help),
        add_completion=False,
    )
    made.callback()(lambda: None)
    return made


_MOST_SHOWN = 600  # entries of a list; a model may know thousands of words


class Sentences(list[str]):
    """Texts of which each is printed on lines of its own, not behind the one before."""


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        shown = [_cell(item) for item in value[:_MOST_SHOWN]]
        more = len(value) - len(shown)
        return ", ".join(shown) + (f" and {more} more, which --json lists" if more else "")
    return str(value)


def _pairs(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{prefix}{key}.")
        elif isinstance(value, Sentences):
            yield from ((prefix + key, line) for line in value)
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:
                yield (
                    prefix + key,
                    "  ".join(f"{name} {_cell(v)}" for name, v in item.items() if v not in ("", None)),
                )
        else:
            yield prefix + key, _cell(value)


def report(facts: Mapping[str, Any], as_json: bool = False) -> None:
    """Print facts on stdout: aligned lines of name and value, or one JSON object."""
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for line in layout.facts(list(_pairs(facts))):
        typer.echo(line)


def listing(rows: list[dict[str, Any]], as_json: bool = False, cut: Sequence[str] = ()) -> None:
    """Print rows with equal keys on stdout: an aligned table without rules, or a JSON array.

    cut: columns that end in `...` where the table would be too wide; JSON has them whole.
    """
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    cells = [[_cell(value) for value in row.values()] for row in rows]
    head = list(rows[0]) if rows else []
    short = [head.index(name) for name in cut if name in head]
    for line in layout.table(([head] if rows else []) + cells, cut=short):
        typer.echo(line)
