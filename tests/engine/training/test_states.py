"""Resume files: the one before stays, a kill during the save loses nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from usepcli.engine.training import states


def test_state_keeps_the_previous_one(tmp_path: Path) -> None:
    for step in (1, 2):
        states.save_state(tmp_path / "last.ckpt", {"step": step, "t": torch.ones(2)})
    assert states.load_state(tmp_path / "last.ckpt")["step"] == 2
    assert states.load_state(tmp_path / "prev.ckpt")["step"] == 1
    (tmp_path / "last.ckpt").write_bytes(b"short")
    state, warning = states.load_last(tmp_path)
    assert state is not None and state["step"] == 1 and "last.ckpt" in warning


SAVER = """
import sys, torch
from pathlib import Path
from usepcli.engine.training.states import save_state
step = 0
while True:
    step += 1
    save_state(Path(sys.argv[1]) / "last.ckpt", {"step": step, "t": torch.full((400_000,), float(step))})
"""


def test_kill_9_during_the_save_leaves_a_readable_state(tmp_path: Path, until: Callable[..., Any]) -> None:
    draw = random.Random(0)
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)]) as child:
            try:
                until(lambda: (tmp_path / "prev.ckpt").exists() or child.poll() is not None, "a second save")
                time.sleep(draw.uniform(0, 0.3))  # any moment of a save will do
            finally:
                child.kill()
        assert child.returncode == -signal.SIGKILL
        state, _ = states.load_last(tmp_path)
        assert state is not None and (state["t"] == state["step"]).all()
        (tmp_path / "prev.ckpt").unlink()
