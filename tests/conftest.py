"""What every test shares: few threads, no settings from outside, patience, real recordings where they exist."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Before torch is imported, here and in child processes: tiny tensors lose time to a second thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["TYPER_USE_RICH"] = "0"

# A suite that a script starts in the background has Ctrl-C ignored, below nohup SIGHUP as well, and so would every
# process that a test sends them to.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

# No example is too slow, nor a draw of examples: that depends on what else the machine does. No examples are kept: the
# repository may belong to somebody else, and what is remembered there would differ from one copy to the next.
settings.register_profile("usep", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("usep")

# How long a test waits for something to happen before it gives up: what hangs ends, what is slow does not fail.
PATIENCE_S = 900

ROOT = Path(__file__).resolve().parent.parent
_SHARED = Path(os.environ.get("USEP_SHARED_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("USEP_", "_USEP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Let no test leave anything beside the sources, or where the tests were started."""
    places = {ROOT, Path.cwd(), ROOT / "runs"}
    before = {place: _names(place) for place in places}
    yield
    left = [str(place / name) for place in places for name in _names(place) - before[place]]
    assert not left, f"left behind: {', '.join(sorted(left))}; write below tmp_path, or go there"


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {name for name in os.listdir(folder) if not name.startswith((".", "__pycache__"))}


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def _same_draws(_few_threads: None) -> None:
    """Let a test draw the same numbers whichever tests ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def patience_s() -> int:
    """How long a process of a test may take."""
    return PATIENCE_S


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Gives `until(condition, what)`: the condition's value as soon as it is true; AssertionError after PATIENCE_S."""

    def until(condition: Callable[[], Any], what: Callable[[], str] | str = "it") -> Any:
        end = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < end, f"never happened: {what if isinstance(what, str) else what()}"
            time.sleep(0.02)
        return value

    return until


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings: $USEP_SHARED_DATA, or shared/data beside the repository."""
    if not (_SHARED / "speech").is_dir():
        pytest.skip(f"no real recordings in {_SHARED}; set USEP_SHARED_DATA to their folder")
    return _SHARED
