"""Man pages and shell completions, written from the commands themselves: `python -m usepcli.cli._docs`.

The pages carry no date, so that the same source gives the same bytes and a test can compare them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from typer._completion_shared import get_completion_script  # private, hence the upper bound on typer

from usepcli.cli._help import sections
from usepcli.cli.app import COMMANDS, EXIT_CODES, app, command

COMMAND_LINE = "python -m usepcli.cli._docs"
ENVIRONMENT = {
    "USEP_SECTION__KEY": "Sets the profile key section.key; --set and the options of a command win over it.",
    "USEP_PROFILES": "Folders with further profiles, separated by colons.",
    "USEP_MODELS": "Folders with further models, separated by colons.",
    "USEP_RUNS": "Folder of the training runs; runs by default.",
    "USEP_THREADS": "Threads of the computation.",
    "OMP_WAIT_POLICY": "ACTIVE lets waiting threads spin, for a machine with no other work; usep sets PASSIVE.",
    "USEP_DEBUG": "1 shows the traceback of every error.",
    "USEP_KEEP_HEAP": "0 gives freed memory back to the system at once, slower but smaller.",
}


def _roff(text: str) -> str:
    """Escape text for roff: backslashes, hyphens that are to stay hyphens, control characters."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in escaped.split("\n"))


def _paragraphs(help_text: str) -> list[tuple[str, list[str]]]:
    """Split a help text into ("text" | "literal", lines) blocks, as its printed form does."""
    blocks = []
    for block in help_text.strip("\n").split("\n\n"):
        lines = block.split("\n")
        literal = lines[0].strip() == "\b" or all(line.startswith(" ") for line in lines)
        blocks.append(("literal" if literal else "text", [line for line in lines if line.strip() not in ("", "\b")]))
    return blocks


def _prose(help_text: str) -> list[str]:
    """Return DESCRIPTION and EXAMPLES of a help text as roff lines."""
    out = [".SH DESCRIPTION"]
    for kind, lines in _paragraphs(help_text):
        if lines and lines[0].strip() == "Examples:":
            out.append(".SH EXAMPLES")
            lines = lines[1:]
        if not lines:
            continue
        if kind == "literal":
            out += [".nf", *(_roff(line.strip()) for line in lines), ".fi", ".PP"]
        else:
            out += [_roff(" ".join(line.strip() for line in lines)), ".PP"]
    while out[-1] == ".PP":
        out.pop()
    return out


def _items(records: list[tuple[str, str]]) -> list[str]:
    out = []
    for term, text in records:
        out += [".TP", f"\\fB{_roff(term)}\\fR", _roff(" ".join(text.split())) or "\\&"]
    return out


def _arguments(target: Any, context: Any) -> list[tuple[str, str]]:
    found = (one.get_help_record(context) for one in target.get_params(context) if one.param_type_name == "argument")
    return [record for record in found if record]


def _options(target: Any, context: Any) -> list[str]:
    """Return the options of a command as roff lines, under the headings of its help."""
    out = []
    for heading, records in sections(target, context).items():
        out += [f".SS {_roff(heading)}", *_items(records)]
    return out


def _page(name: str, target: Any, context: Any, tail: list[str]) -> str:
    """Return one man page; `name` is the full name such as "usep train"."""
    title = name.replace(" ", "-")
    help_text = target.help or ""
    line = " ".join(help_text.split("\n\n")[0].split()).rstrip(".")
    out = [
        f'.TH "{title.upper()}" "1" "" "usep" "usep manual"',
        ".SH NAME",
        f"{_roff(title)} \\- {_roff(line[:1].lower() + line[1:])}",
        ".SH SYNOPSIS",
        f"\\fB{_roff(name)}\\fR " + _roff(" ".join(target.collect_usage_pieces(context))),
        *_prose(help_text),
    ]
    if arguments := _arguments(target, context):
        out += [".SH ARGUMENTS", *_items(arguments)]
    out += [".SH OPTIONS", *_options(target, context)]
    return "\n".join(out + tail) + "\n"


def _below(name: str, target: Any, context: Any) -> list[str]:
    """Return the commands that a command consists of, as roff lines: use, text, arguments and options of each."""
    out = [".SH COMMANDS"] if hasattr(target, "commands") else []
    for short, one in getattr(target, "commands", {}).items():
        inner = one.make_context(short, [], parent=context, resilient_parsing=True)
        out += [f".SS {_roff(f'{name} {short}')}"]
        out += [f"\\fB{_roff(f'{name} {short}')}\\fR " + _roff(" ".join(one.collect_usage_pieces(inner))), ".PP"]
        out += [".PP" if line.startswith(".SH") else line for line in _prose(one.help or "")[1:]]
        options = [record for records in sections(one, inner).values() for record in records]
        out += _items([*_arguments(one, inner), *options])
    return out


def _see_also(names: list[str]) -> list[str]:
    return [".SH SEE ALSO", ", ".join(f"\\fB{_roff(name)}\\fR(1)" for name in names)]


def man_pages() -> dict[str, str]:
    """Return file name -> text of every man page."""
    program: Any = typer.main.get_command(app)
    context = program.make_context("usep", [], resilient_parsing=True)
    commands = {name: command(name) for name in COMMANDS}
    short = [(f"usep-{name}(1)", summary) for name, summary in COMMANDS.items()]
    tail = [".SH COMMANDS", *_items(short)]
    tail += [".SH EXIT STATUS", *_items([(str(code), meaning) for code, meaning in EXIT_CODES.items()])]
    tail += [".SH ENVIRONMENT", *_items(list(ENVIRONMENT.items()))]
    tail += _see_also([f"usep-{name}" for name in sorted(commands)])
    pages = {"usep.1": _page("usep", program, context, tail)}
    for name, one in commands.items():
        inner = one.make_context(name, [], parent=context, resilient_parsing=True)
        status = [".SH EXIT STATUS", "0 when done; the other codes are listed in \\fBusep\\fR(1)."]
        below = _below(f"usep {name}", one, inner)
        pages[f"usep-{name}.1"] = _page(f"usep {name}", one, inner, below + status + _see_also(["usep"]))
    return pages


def completions() -> dict[str, str]:
    """Return file name -> text of the completion script of every shell."""
    shells = {"usep.bash": "bash", "_usep": "zsh", "usep.fish": "fish"}
    texts = {
        file: get_completion_script(prog_name="usep", complete_var="_USEP_COMPLETE", shell=shell).strip() + "\n"
        for file, shell in shells.items()
    }
    # zsh reads the file as the body of a function at the first TAB, which has to be answered as well.
    texts["_usep"] += '\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n  _usep_completion "$@"\nfi\n'
    return texts


def generated() -> dict[str, str]:
    """Return path below the repository root -> text of everything that this module writes."""
    pages = {f"man/{name}": text for name, text in man_pages().items()}
    return pages | {f"completions/{name}": text for name, text in completions().items()}


def write(root: Path) -> list[str]:
    """Write all generated files below `root` and return the paths that changed; stale pages are removed."""
    files = generated()
    changed = []
    for stale in set((root / "man").glob("*.1")) - {root / path for path in files}:
        stale.unlink()
        changed.append(str(stale.relative_to(root)))
    for path, text in files.items():
        target = root / path
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            changed.append(path)
    return sorted(changed)


if __name__ == "__main__":
    for _path in write(Path(__file__).resolve().parents[2]):
        sys.stderr.write(f"wrote {_path}\n")
