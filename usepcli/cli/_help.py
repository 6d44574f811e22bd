"""What `--help` and the man pages show of options: in groups with plain names, values by plain words.

Typer names values by the types of Python (<int range>, <list[str]>) and puts all options on one heap. The groups stand
in one table, so that an option with one name stands under one heading in every command; a test looks that all do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import typer

from usepcli.errors import UsageError

# Heading -> options under it, in the order of the page.
GROUPS = {
    "Profile": ("--profile", "--set", "--init-from", "--print-config"),
    "Input": (
        *("--files-from", "--null", "--shard", "--track", "--file", "--corpus", "--csv", "--root", "--speaker-column"),
        *("--split-column", "--speaker-depth", "--split-ratios", "--mix", "--subset", "--reference", "--channel"),
        *("--variant", "--task", "--noise-as", "--mix-from", "--spacy", "--captions", "--data", "--split"),
        *("--estimates", "--references", "--mixtures"),
        *("--public", "--skip-missing", "--hypotheses", "--texts", "--key", "--sha256", "--limit"),
    ),
    "Separation": (
        *("--model", "--channels", "--rest", "--residual", "--sources", "--keep", "--chunk-s", "--overlap"),
        *("--shifts", "--speeds", "--track", "--two-stems"),
    ),
    "Live": ("--pcm", "--pipe", "--block-ms"),
    "Queries": ("--query", "--like", "--without", "--caption", "--always"),
    "Gains": ("--gain", "--mute", "--pan", "--automation", "--lufs", "--true-peak", "--peak"),
    "Shuffled sets": (*("--shuffle", "--channel-shuffle", "--n-remix", "--batch", "--rounds", "--normalize"),),
    "Mixtures": (
        *("--n-src", "--rate", "--length", "--seconds", "--min-s", "--max-s", "--level-db", "--join", "--pause"),
        *("--noise", "--noise-snr", "--stems", "--supervised", "--test-list", "--seeds", "--train", "--valid"),
        *("--test", "--closed"),
    ),
    "Rooms": ("--reverb", "--rirs", "--rt60", "--rooms", "--anechoic"),
    "Scenes": ("--background", "--background-s", "--backgrounds", "--background-lufs", "--event-snr"),
    "Scores": (
        *("--metric", "--protocol", "--unprocessed", "--oracle", "--stft", "--bounds", "--consistency", "--mom-pairs"),
        *("--assign", "--asr", "--language", "--judge", "--judge-path"),
    ),
    "Comparison": ("--versus", "--compare", "--only", "--stats", "--by"),
    "Questions": ("--trials", "--against"),
    "Exported file": ("--to", "--live", "--block", "--tolerance"),
    "Checkpoint": ("--kind", "--sample-rate", "--mask", "--blocks", "--text-encoder", "--fit-level"),
    "Card": ("--licence", "--licence-weights", "--licence-code", "--training-data", "--dataset"),
    "Job": (
        *("--time", "--nodes", "--ranks-per-node", "--gpus", "--cpus-per-task", "--mem", "--partition", "--account"),
        *("--array", "--sweep", "--signal-s", "--chdir", "--setup", "--directive", "--job-name", "--log"),
    ),
    "Hub": ("--private", "--token-env"),
    "Output": (
        *("--out", "--name", "--format", "--subtype", "--clip", "--labels", "--report", "--report-by", "--figure"),
        *("--kaldi-export", "--shards", "--overwrite", "--force"),
    ),
    "Running": (
        *("--check", "--merge", "--resume", "--fail-fast", "--dry-run", "--load", "--seed", "--device", "--workers"),
        *("--engine", "--threads", "--ranks"),
    ),
    "Messages": ("--json", "--quiet", "--version", "--install-completion", "--show-completion", "--help"),
}
# Where an option of that name means something else in one command.
OWN = {
    ("prepare-data", "--overlap"): "Mixtures",
    ("separate", "--live"): "Live",
    ("prepare-data", "--sources"): "Scenes",
    ("prepare-data", "--licence"): "Input",
    ("remix", "--kind"): "Shuffled sets",
    ("remix", "--residual"): "Shuffled sets",
    ("remix", "--split"): "Shuffled sets",
    ("remix", "--seconds"): "Shuffled sets",
    ("make", "--kind"): "Questions",
    ("export", "--seconds"): "Exported file",
    ("import", "--name"): "Card",
    ("pull", "--name"): "Output",
}
OTHER = "Other"
_WORDS: dict[Any, str] = {int: "N", float: "NUMBER", Path: "PATH", str: "TEXT"}
# What stands for the value of an option that many commands have.
_VALUES = {
    **{
        "--profile": "PROFILE",
        "--model": "MODEL",
        "--metric": "METRIC",
        "--device": "DEVICE",
        "--engine": "ENGINE",
        "--protocol": "PROTOCOL",
        "--init-from": "MODEL",
        "--track": "N",
    },
    **{"--corpus": "CORPUS", "--split": "SPLIT", "--format": "FORMAT", "--subtype": "SUBTYPE", "--by": "COLUMN"},
    **{"--speaker-column": "COLUMN", "--split-column": "COLUMN", "--token-env": "VARIABLE", "--sha256": "SUM"},
    **{
        "--name": "NAME",
        "--judge": "JUDGE",
        "--language": "LANGUAGE",
        "--file": "FILE",
        "--sample-rate": "HZ",
        "--text-encoder": "FOLDER",
        "--rate": "HZ",
    },
    **{"--seconds": "SECONDS", "--chunk-s": "SECONDS", "--min-s": "SECONDS", "--max-s": "SECONDS", "--level-db": "DB"},
    **{"--channels": "linked|each|mix|first", "--rest": "share|leave", "--sources": "all|auto", "--peak": "gain|limit"},
    **{"--clip": "gain|error|allow"},
    **{"--lufs": "LUFS", "--true-peak": "DBTP", "--background-s": "SECONDS", "--csv": "LIST"},
}


def group_of(command: str, parameter: Any) -> str:
    """Return the heading of an option of a command."""
    name = _name(parameter)
    return OWN.get((command, name)) or next((group for group, names in GROUPS.items() if name in names), OTHER)


def _name(parameter: Any) -> str:
    names: list[str] = parameter.opts
    return next((name for name in names if name.startswith("--")), names[0])


def plain(target: Any) -> Any:
    """Return a command, or one that consists of commands, whose parameters name their values by plain words."""
    for parameter in target.params:
        argument = parameter.param_type_name == "argument"
        if parameter.metavar is None:
            parameter.metavar = parameter.name.upper() if argument else _value(parameter)
        if argument:
            parameter.display_type_rich = lambda ctx: None
            parameter._usage_display_name = lambda own=parameter: own.metavar if own.required else f"[{own.metavar}]"
        parameter._get_number_range_help_str = lambda own=parameter: _range(own.min, own.max)
    for one in getattr(target, "commands", {}).values():
        plain(one)
    return target


def _value(option: Any) -> str | None:
    """Return what stands for an option's value; None for switches and where Typer lists the choices."""
    if option.is_flag or option.count:
        return None
    if option.type_descriptor.is_choice:
        return "|".join(map(str, option.type_descriptor.choices))
    if _name(option) in _VALUES:
        return _VALUES[_name(option)]
    kind = option.type_descriptor.annotation
    inner = next((each for each in (kind, *get_args(kind)) if each in _WORDS), str)
    return _WORDS[inner]


def _range(low: float | None, high: float | None) -> str | None:
    """Return a range in words; that nothing may be below zero needs none."""
    if high is not None:
        return f"{low or 0:g} to {high:g}"
    return f"at least {low:g}" if low else None


def sections(target: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """Return heading -> (names, text) of the options of a command in the order of the page, without empty ones."""
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in (*GROUPS, OTHER)}
    for parameter in target.get_params(context):
        record = parameter.get_help_record(context) if parameter.param_type_name == "option" else None
        if record:
            found[group_of(target.name or "", parameter)].append(record)
    return {name: records for name, records in found.items() if records}


def write_options(target: Any, context: Any, formatter: Any) -> None:
    """Write arguments and grouped options of a command as `--help` shows them."""
    found = (one.get_help_record(context) for one in target.get_params(context) if one.param_type_name == "argument")
    if arguments := [record for record in found if record]:
        with formatter.section("Arguments"):
            formatter.write_dl(arguments)
    for heading, records in sections(target, context).items():
        with formatter.section(heading):
            formatter.write_dl(records)


def refuse_empty(target: Any, words: list[str]) -> None:
    """UsageError for an empty word on a command line: Path("") is the folder one stands in, so "$UNSET" would be it.

    Options that are empty by default may be given so.
    """
    taking = [each for each in target.params if each.param_type_name == "option" and not (each.is_flag or each.count)]
    options = {name: each for each in taking for name in each.opts}
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        if word == "":
            name = before if before in options else "an input"
        elif word.startswith("--") and word.endswith("="):
            name = word[:-1]
        else:
            continue
        if name in options and options[name].default == "":
            continue
        raise UsageError(
            f"{name} is an empty text; is it a variable that is not set? leave it away, or write ./ for this folder"
        )


class Command(typer.core.TyperCommand):
    """A command whose help has its options in groups."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line, in which no word may be empty."""
        if not ctx.resilient_parsing:
            refuse_empty(self, args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        write_options(self, ctx, formatter)


class Group(typer.core.TyperGroup):
    """A command that consists of commands, likewise."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options and commands."""
        write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)
