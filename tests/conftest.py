"""What every test shares: one thread, no settings from outside, real recordings where they exist."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Before torch is imported, here and in child processes: tiny tensors lose time to a second thread.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TYPER_USE_RICH"] = "0"

# A suite that a script starts in the background has Ctrl-C ignored, and so would every process that a test sends it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
_SHARED = Path(os.environ.get("USEP_SHARED_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("USEP_", "_USEP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


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
