from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from usepcli.engine.parallel import cores, run_tasks
from usepcli.errors import WorkerDied


@pytest.mark.parametrize("workers", [1, 2])
def test_results_in_order(workers: int):
    assert list(run_tasks(math.sqrt, list(range(100)), workers, chunk=7)) == [math.sqrt(i) for i in range(100)]
    assert list(run_tasks(math.sqrt, [], workers)) == []
    assert cores() >= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_arrive_unchanged(workers: int):
    with pytest.raises(ValueError, match="domain"):
        list(run_tasks(math.sqrt, [1, 2, -1, 4], workers, chunk=1))


def test_a_killed_worker_is_explained():
    with pytest.raises(WorkerDied, match="memory"):
        list(run_tasks(os._exit, [9, 9, 9], 2, chunk=1))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_go_when_the_parent_is_killed(tmp_path: Path):
    script = tmp_path / "main.py"
    script.write_text(
        "import time\nfrom usepcli.engine.parallel import run_tasks\n"
        "if __name__ == '__main__':\n    list(run_tasks(time.sleep, [0.01, 0.01, 60, 60], 2, chunk=1))\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(root)})
    children: list[int] = []
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len(children) < 3:  # two workers and the resource tracker
        time.sleep(0.2)
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        children = [int(pid) for pid in listed.read_text().split()]
    time.sleep(1.0)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while time.monotonic() < deadline and any(map(alive, children)):
        time.sleep(0.2)
    assert len(children) >= 2 and not any(map(alive, children))
