"""A run's folder: who holds it, what it was started with, and its logs cut back to the last checkpoint."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from usepcli.engine.training import states
from usepcli.errors import ConfigError, OutputError
from usepcli.files import write_bytes
from usepcli.versions import versions

# Settings that may differ when a run goes on: they do not change what is learned from a given step on.
FREE = {
    "about", "credits", "licence", "extends", "train.epochs", "train.max_steps", "train.max_hours", "train.workers",
    "train.worker_timeout_s", "train.threads", "train.device", "train.checkpoint_every_s", "train.log_every",
    "valid.workers", "valid.also", "data.cache",
}  # fmt: skip


# How long a killed run's data workers may take to notice that their parent is gone.
ORPHANS_S = 10.0


def training_data(manifest: str, pools: Iterable[str]) -> str:
    """Return what a run learns from, for its card: manifest and pools, each folder once."""
    named: dict[str, str] = {}
    for path in filter(None, (manifest, *pools)):
        named.setdefault(os.path.normpath(path), path)
    return ", ".join(named.values())


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _alive(holder: str) -> bool:
    """Whether the process that a lock names may still run; one on another host counts as running."""
    words = holder.split()
    if len(words) < 4 or not words[1].isdigit() or words[3] != socket.gethostname():
        return True
    return Path(f"/proc/{words[1]}").exists() if Path("/proc").is_dir() else True


class RunFolder:
    """Creates or reopens a run's folder, and holds its lock while the process lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = open(path / ".lock", "a+")  # noqa: SIM115 - held until the process ends
        except OSError as fault:
            raise OutputError(
                f"{path}: cannot be made or written ({fault.strerror}); choose another with -o"
            ) from fault
        self._take(path)
        self._lock.truncate(0)
        self._lock.write(f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}")
        self._lock.flush()
        for debris in path.glob("*.tmp.*"):
            debris.unlink(missing_ok=True)

    def _take(self, path: Path) -> None:
        """Lock, or OutputError; data workers of a killed run hold its lock for the seconds until they notice."""
        patience = time.monotonic() + ORPHANS_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as fault:
                self._lock.seek(0)
                holder = self._lock.read().strip() or "another process"
                if _alive(holder) or time.monotonic() > patience:
                    self._lock.close()
                    raise OutputError(
                        f"{path}: in use by {holder}; wait for it or choose another folder with -o"
                    ) from fault
            time.sleep(0.1)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.close()

    def begin(self, profile: dict[str, Any], force: bool) -> None:
        """Record what the run starts with; ConfigError if the folder holds a run of other settings.

        A start that was refused, or ended before anything was saved, has learned nothing: its settings bind nobody.
        """
        record = self.path / "run.json"
        begun = any((self.path / name).exists() for name in (*states.SAVED, "best.safetensors"))
        if record.exists() and begun:
            before = flatten(json.loads(record.read_text())["profile"])
            now = flatten(json.loads(json.dumps(profile)))
            changed = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k) and k not in FREE]
            if changed and not force:
                listed = "; ".join(f"{k}: {before.get(k)!r} then, {now.get(k)!r} now" for k in changed[:8])
                raise ConfigError(
                    f"{self.path}: holds a run of other settings ({listed}); choose another -o, or --force"
                )
        facts = {
            "profile": profile,
            "argv": sys.argv,
            "versions": versions("torch"),
            "started": time.strftime("%F %T"),
        }
        write_bytes(record, json.dumps(facts, indent=1).encode())

    def note(self, facts: dict[str, Any]) -> None:
        """Add facts that are known once all is built to the record of the start."""
        record = self.path / "run.json"
        write_bytes(record, json.dumps({**json.loads(record.read_text()), **facts}, indent=1).encode())

    def cut_logs(self, step: int, due: bool = False) -> None:
        """Drop the rows that lie after the checkpoint, so that no step appears twice after a kill.

        due: the validation of that step is still to come, so a row of it is another try's.
        """
        for name in ("train.csv", "valid.csv"):
            file = self.path / name
            last = step - 1 if due and name == "valid.csv" else step
            if not file.exists():
                continue
            with open(file, newline="") as source:
                reader = csv.DictReader(source)
                columns = reader.fieldnames or []
                # A kill may leave a last line without all its fields.
                rows = [
                    r
                    for r in reader
                    if (r.get("step") or "").isdigit() and int(r["step"]) <= last and None not in r.values()
                ]
            if not rows:
                # A new start may have other columns.
                file.unlink()
                continue
            out = io.StringIO()
            writer = csv.DictWriter(out, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_bytes(file, out.getvalue().encode())
