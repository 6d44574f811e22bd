"""The program as a user meets it: exit codes, streams, errors, completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import usepcli
from usepcli import errors
from usepcli.cli import _docs, _help, app

RUNNER = CliRunner()


def _main(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    """Run main() with a command that raises `error`, and return the exit code."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["usep", *arguments])
    monkeypatch.setattr(app, "app", fail)
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_lists_commands_and_exit_codes():
    done = RUNNER.invoke(app.app, ["--help"])
    assert done.exit_code == 0
    for name in app.COMMANDS:
        assert f"\n  {name} " in done.stdout
    for code, meaning in app.EXIT_CODES.items():
        assert f"{code:<4} {meaning}" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", app.COMMANDS)
def test_every_command_ends_its_help_with_two_examples(command: str):
    done = RUNNER.invoke(app.app, [command, "--help"])
    assert done.exit_code == 0
    examples = re.split(r"\n(?=[A-Z])", done.stdout.split("Examples:")[1])[0]
    assert len([line for line in examples.splitlines() if line.strip().startswith(("usep ", "torchrun "))]) >= 2


def _commands() -> dict[str, typer.core.TyperCommand]:
    """Return every command by its full name, those of `usep listen` and the program itself among them."""
    found = {"": typer.main.get_command(app.app)}
    for name in app.COMMANDS:
        found[name] = built = app.command(name)
        found |= {f"{name} {short}": one for short, one in getattr(built, "commands", {}).items()}
    return found


# Words of Python that no value of an option has: <int range>, INTEGER RANGE, list[str], Optional[...].
_TYPES = re.compile(
    r"<(int|float|str|bool|list|tuple|path|class|file|dir|text)\b|(?i:\b(integer|float|int) range\b)"
    r"|\b(list|tuple|Optional|Union|Literal|Annotated)\[|\bINTEGER\b|\btyping\."
)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return _docs.man_pages()


@pytest.mark.parametrize("name", ["", *app.COMMANDS, "listen make", "listen score"])
def test_help_has_groups_with_plain_names_and_no_type_of_python(name: str, pages: dict[str, str]):
    target = _commands()[name]
    context = target.make_context(name.split()[-1] if name else "usep", [], resilient_parsing=True)
    options = [each for each in target.get_params(context) if each.param_type_name == "option" and not each.hidden]
    groups = {each.opts[0]: _help.group_of(target.name or "", each) for each in options}
    assert options and _help.OTHER not in groups.values(), groups
    text = target.get_help(context)
    for group in set(groups.values()):
        assert f"\n{group}:\n" in text
    assert "\nOptions:" not in text and not _TYPES.search(text), _TYPES.search(text)
    assert _TYPES.search("  --seed <int range>") and _TYPES.search("INTEGER RANGE") and _TYPES.search("list[str]")
    for each in options:
        assert text.count(f" {each.opts[-1]}") >= 1, each.opts
    page = pages[f"usep-{name.split()[0]}.1" if name else "usep.1"]
    assert " " in name or all(f"\n.SS {group}\n" in page for group in set(groups.values()))


def test_a_range_is_said_in_words():
    shown = RUNNER.invoke(app.app, ["remix", "--help"]).stdout
    assert "at least 2" in shown and "x>=" not in shown and "min" not in shown.split("--batch")[1][:40]


def test_first_lines_in_the_program_are_those_of_the_commands():
    assert {name: app.command(name).help.split("\n\n")[0] for name in app.COMMANDS} == app.COMMANDS


def test_commands_are_the_modules_of_the_folder(root: Path):
    modules = {path.stem for path in (root / "usepcli" / "cli").glob("*.py")} - {"__init__", "app"}
    assert {app.MODULES.get(name, name.replace("-", "_")) for name in app.COMMANDS} == {
        name for name in modules if name[0] != "_"
    }


def test_version_and_bare_call():
    assert RUNNER.invoke(app.app, ["--version"]).stdout == f"usep {usepcli.__version__}\n"
    assert RUNNER.invoke(app.app, []).exit_code == 2


@pytest.mark.parametrize("command", ["separate", "remix", "train", "info", "import", "export", "pull", "push"])
def test_a_bare_command_says_what_to_type(command: str):
    done = RUNNER.invoke(app.app, [command])
    assert done.exit_code == 2 and done.stdout == ""
    assert f"Examples:\n  usep {command} " in done.stderr and re.search("Error: .*[Mm]issing", done.stderr)
    assert "Examples:" not in RUNNER.invoke(app.app, [command, "--nosuch"]).stderr


def test_misspelled_command_is_answered_with_the_right_one():
    done = RUNNER.invoke(app.app, ["trian"])
    assert done.exit_code == 2
    assert "train" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("cls", [errors.UsepError, *errors.UsepError.__subclasses__()], ids=lambda c: c.__name__)
def test_errors_are_one_line_and_their_code(
    cls: type[errors.UsepError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert _main(monkeypatch, cls("x.wav: found a, expected b")) == cls.code
    assert capsys.readouterr() == ("", "usep: error: x.wav: found a, expected b\n")


def test_unexpected_error_is_called_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert _main(monkeypatch, KeyError("k")) == 1
    err = capsys.readouterr().err
    assert err == "usep: unexpected error KeyError: 'k' (a bug; run with USEP_DEBUG=1 to see where)\n"


@pytest.mark.parametrize(("arguments", "debug"), [(["-vv"], "0"), (["-v", "-v"], ""), (["-q"], "1")])
def test_traceback_on_request(
    arguments: list[str], debug: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("USEP_DEBUG", debug)
    assert _main(monkeypatch, errors.BadInput("bad"), *arguments) == 65
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.endswith("usep: error: bad\n")


def test_single_v_shows_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert _main(monkeypatch, errors.BadInput("bad"), "train", "-v", "--valid", "x") == 65
    assert "Traceback" not in capsys.readouterr().err


def test_system_errors_name_the_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert _main(monkeypatch, OSError(28, "No space left on device", "out.wav")) == 74
    assert capsys.readouterr().err == "usep: error: out.wav: No space left on device\n"
    assert _main(monkeypatch, OSError(36, "File name too long", "x" * 300)) == 66
    assert _main(monkeypatch, KeyboardInterrupt()) == 130


def test_names_with_undecodable_bytes_reach_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    name = os.fsdecode(b"\xff\xfe.wav")
    assert _main(monkeypatch, errors.BadInput(f"{name}: empty")) == 65
    assert capsys.readouterr().err == "usep: error: \\udcff\\udcfe.wav: empty\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["usep", "tr"], {"train"}),
        (["usep", "train", "--profile", "small_pi"], {"small_pit", "small_pixit"}),
        (["usep", "evaluate", "--metric", "si-"], {"si-snr", "si-snr-fuss", "si-snri", "si-snri-fuss"}),
        (["usep", "prepare-data", "x", "--corpus", "spe"], {"speakers"}),
        (["usep", "listen", ""], {"make", "score"}),
        (["usep", "listen", "make", "--kind", "w"], {"which", "words"}),
        (["usep", "listen", "make", "def"], {"default"}),
    ],
)
def test_completion(words: list[str], expected: set[str], patience_s: int):
    environ = {**os.environ, "_USEP_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words)}
    environ["COMP_CWORD"] = str(len(words) - 1)
    done = subprocess.run(
        [sys.executable, "-c", "from usepcli.cli.app import main; main()"],
        env=environ, capture_output=True, text=True, timeout=patience_s, cwd=app.__file__.rsplit("/usepcli/", 1)[0],
    )  # fmt: skip
    assert set(done.stdout.split()) == expected


def test_the_same_short_options_mean_the_same_everywhere():
    seen: dict[str, set[str]] = {}
    for name in app.COMMANDS:
        for parameter in app.command(name).params:
            short = [name for name in parameter.opts if len(name) == 2]
            for option in short:
                seen.setdefault(option, set()).update(set(parameter.opts) - {option})
    assert all(len(names) == 1 for names in seen.values()), seen


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (["separate", "", "-o", "out"], "an input"),
        (["separate", "x.wav", "-o", ""], "-o"),
        (["separate", "x.wav", "--out="], "--out"),
        (["remix", "", "-o", "o.wav"], "an input"),
        (["remix", "--shuffle", "", "-o", "o"], "--shuffle"),
        (["evaluate", "-q", ""], "an input"),
        (["evaluate", "default", "--data", ""], "--data"),
        (["listen", "make", "default", "-o", ""], "-o"),
        (["prepare-data", "", "-o", "d"], "an input"),
        (["separate", "x.wav", "-o", "out", "--model", ""], "--model"),
    ],
)
def test_an_empty_word_is_not_the_folder_one_stands_in(
    line: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    error = RUNNER.invoke(app.app, line).exception
    assert isinstance(error, errors.UsageError) and str(error).startswith(f"{name} is an empty text; ")
    assert list(tmp_path.iterdir()) == []
    assert RUNNER.invoke(app.app, ["separate", "no.wav", "-o", "x", "--subtype", ""]).exit_code != 2


def test_every_command_that_talks_can_be_quiet():
    """What these say is their answer."""
    silent = {"", "cluster", "listen", "profiles", "info", "doctor"}
    without = {name for name, one in _commands().items() if not any("-q" in each.opts for each in one.params)}
    assert without == silent


def test_documents_are_written_where_they_belong(tmp_path):
    assert set(_docs.write(tmp_path)) == set(_docs.generated())
    assert _docs.write(tmp_path) == []
    (tmp_path / "man" / "usep-gone.1").write_text("x")
    assert _docs.write(tmp_path) == ["man/usep-gone.1"]
