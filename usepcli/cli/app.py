"""The `usep` program: its commands, its exit codes, and the one place where errors reach the screen."""

from __future__ import annotations

import importlib
import os
import sys

# Read by Typer when it is imported: plain help and errors, for logs and for a quick start.
os.environ["TYPER_USE_RICH"] = "0"

from typing import Annotated, Any

import typer

import usepcli
from usepcli import guard
from usepcli.audio import reading
from usepcli.cli import _help, _streams
from usepcli.engine.separation.ending import Ending
from usepcli.errors import WorkerDied

# Read by the OpenMP runtimes when torch is imported, in this process and in those below it: threads that wait sleep.
# Spinning, they take the time of a core that has other work, and gain nothing on one that has none. A program that only
# imports usepcli decides for itself. Whoever sets one of the three (the standard's, GNU's, LLVM's) has decided.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
if not any(name in os.environ for name in WAITING):
    os.environ[WAITING[0]] = "PASSIVE"

# The first line of each command's help stands here too (a test compares them), so that `usep --help` and TAB
# import no command, and `usep train` only its own: half of the start would go into the options of the others.
COMMANDS = {
    "prepare-data": "Make a data set for training: manifest.csv, prepare.json and, from single talkers, mixtures.",
    "train": "Train a separator from a profile.",
    "calibrate": "Find out how a model tells what is there, and keep it on its card.",
    "evaluate": "Score a model on a test set, or files that any program separated.",
    "listen": "Make a blind listening test, or count its answers.",
    "separate": "Separate recordings into their sources.",
    "remix": "Mix stems or separated sources with other gains, or shuffle the sources of a set into new mixtures.",
    "profiles": "List the profiles in reach, one line each.",
    "models": "List the models in reach, one line each; with --public, what `usep pull` can fetch.",
    "import": "Make a model file of usep from a checkpoint of another toolkit.",
    "export": "Write a model for another runtime, and check that it separates alike.",
    "pull": "Fetch a model, check it, and keep it under a name.",
    "push": "Publish a model with its card: model.safetensors, config.json and README.md.",
    "cluster": "Print a job file for a cluster's scheduler, and submit nothing.",
    "info": "Print what a model, a run folder or a checkpoint is.",
    "doctor": "Print versions, devices, threads, memory, profile folders and optional extras.",
}
# A command whose name Python keeps for itself.
MODULES = {"import": "import_model"}
EXIT_CODES = {
    0: "done",
    1: "unexpected error (a bug)",
    2: "wrong usage of the command line",
    3: "training diverged",
    4: "some inputs failed, the rest is done",
    65: "data or checkpoint unreadable or unfit",
    66: "input not found",
    69: "package or device missing",
    70: "a worker process died",
    73: "output exists, is locked or cannot be made",
    74: "reading or writing failed, disk full",
    75: "stopped, state saved: run the same command again",
    78: "wrong profile, --set or USEP_* value",
    130: "interrupted (143: terminated, 129: terminal closed)",
}
EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())


def command(name: str) -> Any:
    """Import the module of one command and return the command with its options."""
    attribute = MODULES.get(name, name.replace("-", "_"))
    function = getattr(importlib.import_module(f"usepcli.cli.{attribute}"), attribute)
    if isinstance(function, typer.Typer):  # commands of its own
        return _help.plain(typer.main.get_command(function))
    alone = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    alone.command(name, cls=_help.Command)(function)
    return _help.plain(typer.main.get_command(alone))


_NEEDING = ("train",)  # one of two options


class _Program(_help.Group):
    """Knows its commands by name and first line, and builds the one that is asked for."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as err:  # neither stream raises it; Typer would end with 1 and say nothing
            raise WorkerDied("the process at the other end of a pipe has ended; run the same command again") from err

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        if not name or not found:
            return name, found, rest
        built = command(name)
        if not rest and (name in _NEEDING or any(parameter.required for parameter in built.params)):
            _say(f"{_examples(built)}\n")  # what is missing follows
        return name, built, rest


def _examples(built: Any) -> str:
    """Return the examples at the end of a command's help."""
    text = (built.help or "").partition("Examples:")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "Examples:\n" + "\n".join(f"  {line}" for line in lines)


app = typer.Typer(
    name="usep",
    cls=_Program,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _summary in COMMANDS.items():
    app.command(_name, short_help=_summary)(lambda: None)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"usep {usepcli.__version__}")
        raise typer.Exit()


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Separate one recording into its sources, and train models that do.

    \b
    Examples:
      usep separate meeting.wav -o separated
      usep train --profile small_pit --set data.manifest=data/two
    """


def _wants_traceback(arguments: list[str]) -> bool:
    debug = os.environ.get("USEP_DEBUG", "") not in ("", "0")
    # The options of a failed command are out of reach, so the count of -v is taken from the line itself.
    counted = sum(len(a) - 1 for a in arguments if a.startswith("-v") and set(a[1:]) == {"v"})
    return debug or counted + arguments.count("--verbose") >= 2


def _say(text: str) -> None:
    # File names may hold bytes that the terminal's encoding has no letters for.
    sys.stderr.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def main() -> None:
    """Run `usep` with the process's arguments; every error becomes one line on stderr and an exit code."""
    _streams.install()
    reading.tell()
    try:
        with Ending():
            try:
                app(prog_name="usep")
            finally:
                sys.stdout.flush()  # a full disk, or a reader who left, is met here and not when nobody can say so
    except KeyboardInterrupt as stop:
        if not stop.args:  # it came before a command, or outside what speaks for itself
            _say("usep: stopped by Ctrl-C")
        sys.exit(130)
    except Exception as error:
        if _wants_traceback(sys.argv[1:]):
            import traceback

            traceback.print_exc()
        line, code = guard.explain(error)
        _say(line)
        sys.exit(code)


if __name__ == "__main__":
    main()
