from __future__ import annotations

import io
import os
import sys

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


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of POSIX")
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (24, 60), (24, 200)])
def test_terminals_of_any_size_and_of_none_get_a_bar(rows: int, columns: int) -> None:
    import fcntl
    import pty
    import struct
    import termios

    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with os.fdopen(inner, "w") as stream:
        for _ in Progress(range(3), desc="work", stream=stream):
            pass
    shown = os.read(outer, 4096).decode()  # less than the terminal holds
    os.close(outer)
    lines = [line for line in shown.split("\r") if line.strip()]
    assert "3/3" in lines[-1] and max(map(len, lines)) <= (columns or 80)


def test_quiet_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(total=2, quiet=True) as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "")


def test_total_is_taken_from_a_sized_iterable_only() -> None:
    assert Progress([1, 2, 3], stream=io.StringIO()).total == 3
    assert Progress(iter([1, 2, 3]), stream=io.StringIO()).total is None


def test_clock() -> None:
    assert [clock(s) for s in (0.4, 59, 61, 3600 + 125)] == ["0 s", "59 s", "1:01", "1:02:05"]
