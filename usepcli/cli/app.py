"""The `usep` program: its commands, its exit codes, and the one place where errors reach the screen."""

from __future__ import annotations

import os
import sys
import traceback

# Read by Typer when it is imported: plain help and errors, for logs and for a quick start.
os.environ["TYPER_USE_RICH"] = "0"

from typing import Annotated

import typer

import usepcli
from usepcli.cli.doctor import doctor
from usepcli.cli.evaluate import evaluate
from usepcli.cli.info import info
from usepcli.cli.models import models
from usepcli.cli.prepare_data import prepare_data
from usepcli.cli.profiles import profiles
from usepcli.cli.remix import remix
from usepcli.cli.separate import separate
from usepcli.cli.train import train
from usepcli.errors import IOFault, UsepError

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
    130: "interrupted (143: terminated)",
}
EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())

app = typer.Typer(
    name="usep",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command in {
    "prepare-data": prepare_data,
    "train": train,
    "evaluate": evaluate,
    "separate": separate,
    "remix": remix,
    "profiles": profiles,
    "models": models,
    "info": info,
    "doctor": doctor,
}.items():
    app.command(_name)(_command)


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


def _explain(error: Exception) -> tuple[str, int]:
    """Return the line to print for an exception, and the exit code."""
    if isinstance(error, UsepError):
        return f"usep: error: {error}", error.code
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return f"usep: error: {place}{error.strerror}", IOFault.code
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"usep: unexpected error {what} (a bug; run with USEP_DEBUG=1 to see where)", 1


def main() -> None:
    """Run `usep` with the process's arguments; every error becomes one line on stderr and an exit code."""
    try:
        app(prog_name="usep")
    except BrokenPipeError:
        # The reader has gone, as in `usep models | head -1`: keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if _wants_traceback(sys.argv[1:]):
            traceback.print_exc()
        line, code = _explain(error)
        _say(line)
        sys.exit(code)


if __name__ == "__main__":
    main()
