from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import resource_tracker, util
from pathlib import Path
from typing import Any

import pytest

from usepcli.engine import working
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
def test_workers_go_when_the_parent_is_killed(tmp_path: Path, until: Callable[..., Any]):
    script = tmp_path / "main.py"
    script.write_text(
        "import os, sys, time\nfrom pathlib import Path\nfrom usepcli.engine.parallel import run_tasks\n"
        "def task(name):\n    Path(name).touch()\n    time.sleep(3600)\n"
        "if __name__ == '__main__':\n    list(run_tasks(task, sys.argv[1:], 2, chunk=1))\n"
    )
    started = [tmp_path / "1", tmp_path / "2"]
    root = Path(__file__).resolve().parents[2]
    line = [sys.executable, str(script), *map(str, started)]
    with subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(root)}) as parent:
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        children: list[int] = []
        try:
            until(lambda: all(path.exists() for path in started) or parent.poll() is not None, "both tasks began")
            children = [int(pid) for pid in listed.read_text().split()]
            assert len(children) >= 2  # two workers, and the resource tracker
            parent.kill()
            parent.wait()
            until(lambda: not any(map(alive, children)), "all workers ended")
        finally:
            parent.kill()
            for pid in filter(alive, children):
                os.kill(pid, signal.SIGKILL)


def test_nothing_begins_once_the_end_is_wanted() -> None:
    """However often a lock is released and taken again at once: who waits for it need not get it in between."""
    script = (
        "import threading, time\nfrom usepcli.engine.working import at_work\n"
        "wanted = threading.Event()\n"
        "threading.Thread(target=lambda: (wanted.wait(), at_work.end()), daemon=True).start()\n"
        "for number in range(10):\n    with at_work:\n        print(number, flush=True)\n"
        "        if number == 3:\n            wanted.set()\n"
        "            while not at_work._over.is_set():\n                time.sleep(0.001)\n"
    )
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout.split() == ["0", "1", "2", "3"] and (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_is_the_parents_affair(tmp_path: Path, until: Callable[..., Any], number: int):
    """Workers answer no signal: no traceback, the task under way ends, those that wait are dropped, nobody is left."""
    script = tmp_path / "main.py"
    script.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom usepcli.engine.parallel import run_tasks\n"
        "from usepcli.engine.separation.ending import Ending\n"
        "def task(name):\n    Path(name).touch()\n    time.sleep(0.5)\n    Path(name + '.done').touch()\n"
        "if __name__ == '__main__':\n    try:\n        with Ending():\n"
        "            list(run_tasks(task, sys.argv[1:], 2, chunk=50))\n"
        "    except KeyboardInterrupt:\n        sys.exit(130)\n"
    )
    named = [tmp_path / f"t{i}" for i in range(100)]
    root = Path(__file__).resolve().parents[2]
    line = [sys.executable, str(script), *map(str, named)]
    with subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        children: list[int] = []
        until(lambda: (named[0].exists() and named[50].exists()) or parent.poll() is not None, "two tasks began")
        children = [int(pid) for pid in listed.read_text().split()]
        os.killpg(parent.pid, number)
        _, said = parent.communicate(timeout=60)
    assert said == f"usep: stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}\n"
    assert parent.returncode == 128 + number
    until(lambda: not any(map(alive, children)), "all workers went")
    begun = [path for path in named if path.exists()]
    assert len(begun) < 50 and all(path.with_name(path.name + ".done").exists() for path in begun)


def test_every_worker_begins_with_signals_blocked(monkeypatch: pytest.MonkeyPatch):
    """Also the first, beside which multiprocessing begins its resource tracker and unblocks two of them (3.11)."""
    fresh, masks = resource_tracker.ResourceTracker(), []
    for name in ("ensure_running", "getfd"):
        monkeypatch.setattr(resource_tracker, name, getattr(fresh, name))
    spawn = util.spawnv_passfds

    def watched(path: Any, line: Any, *more: Any) -> int:
        if any(b"spawn_main" in os.fsencode(word) for word in line):
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return spawn(path, line, *more)

    monkeypatch.setattr(util, "spawnv_passfds", watched)
    assert list(run_tasks(math.sqrt, [1, 4], 2, chunk=1)) == [1, 2]
    assert len(masks) == 2 and all(mask >= set(working.IGNORED) for mask in masks)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(working.IGNORED)
