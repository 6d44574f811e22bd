"""The options that messages, help texts and docstrings tell of, after the name of a command, are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import usepcli
from usepcli.cli import app

# A command and the words after it, up to where a sentence or a quotation may end.
TOLD = re.compile(r"\busep ([a-z]+(?:-[a-z]+)*)\b([^`.;,:()\n\"']*)")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z0-9-]*")


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module, `{}` in the place of values."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def known(target: Any) -> set[str]:
    """Return the options of a command and of those that it consists of."""
    kinds = [target, *getattr(target, "commands", {}).values()]
    return {"--help"} | {name for kind in kinds for one in kind.params for name in (*one.opts, *one.secondary_opts)}


def told(text: str) -> list[tuple[str, str]]:
    """Return the commands and options that a text tells of."""
    return [(name, option) for name, rest in TOLD.findall(text) for option in OPTION.findall(rest)]


def test_options_that_are_told_of_exist() -> None:
    assert told("calibrated; see usep evaluate --calibrate, or else") == [("evaluate", "--calibrate")]
    seen, wrong = 0, []
    for path in sorted(Path(usepcli.__file__).parent.rglob("*.py")):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            for name, option in told(text):
                seen += 1
                if name not in app.COMMANDS or option not in known(app.command(name)):
                    wrong.append(f"{path.name}: usep {name} {option}")
    assert not wrong and seen > 100, wrong


def test_help_offers_the_channels_that_are_taken() -> None:
    from usepcli.data.items import CHANNELS
    from usepcli.separator import how

    taken = {"evaluate": CHANNELS, "calibrate": CHANNELS, "separate": how.CHANNELS}
    commands = {name: app.command(name) for name in taken} | {"listen": app.command("listen").commands["make"]}
    for name, command in commands.items():
        (option,) = [one for one in command.params if "--channels" in one.opts]
        assert set(option.metavar.split("|")) == set(taken.get(name, CHANNELS)), name
