from __future__ import annotations

import io

import pytest

from usepcli.report.progress import Progress, clock, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_are_rare_and_say_how_far() -> None:
    log = io.StringIO()
    bar = Progress(total=4, desc="scoring", unit="item", stream=log, every_s=0.0)
    bar.note("si-snri 9.1 dB")
    bar.update(2)
    assert log.getvalue().startswith("scoring: 2/4 item, ")
    assert log.getvalue().endswith("left, si-snri 9.1 dB\n")
    rare = io.StringIO()
    assert list(Progress(range(1000), stream=rare)) == list(range(1000))
    assert rare.getvalue() == ""


def test_terminal_gets_a_bar_and_a_log_gets_no_control_characters() -> None:
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        for _ in Progress(range(3), desc="work", stream=stream, every_s=0.0):
            pass
    assert "3/3" in terminal.getvalue() and "\r" in terminal.getvalue()
    assert "\r" not in log.getvalue() and "\x1b" not in log.getvalue()


def test_quiet_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(total=2, quiet=True) as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "")


def test_total_is_taken_from_a_sized_iterable_only() -> None:
    assert Progress([1, 2, 3], stream=io.StringIO()).total == 3
    assert Progress(iter([1, 2, 3]), stream=io.StringIO()).total is None


def test_clock() -> None:
    assert [clock(s) for s in (0.4, 59, 61, 3600 + 125)] == ["0 s", "59 s", "1:01", "1:02:05"]
