"""A disk that fills up under each command: what it says, what it leaves, and whether it goes on once there is room.

    python benchmarks/full_disk.py [--only NAME] [--parts 6]                (Linux, as root: a small tmpfs is mounted)

Each command runs once on a tmpfs with room enough, which gives the bytes that it needs, and what it writes. Then it
runs on the same tmpfs with less room: none, and so many parts of what it needs. Expected are exit 74, or 73 where no
file can be made at all, one line that says what is free, what stood there before as it was, no file under a
name of the undisturbed run that is not whole, no hidden file; then, with room, the same command ends with 0 and writes
the names of the undisturbed run. The script ends with 1 where anything else was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import damage
import torch  # noqa: F401

import usepcli.engine.separation.run
import usepcli.engine.training.train  # noqa: F401
from usepcli.cli import app

ROOM = 64 << 20
PAGE = 4096
FOREIGN = Path(__file__).parents[1] / "tests" / "engine" / "exchange" / "foreign"
# What differs between two runs by time or place, or is another where work ended earlier: tables, states, curves.
GROWING = re.compile(
    r"(train|valid|bad_files|errors|items|outputs|seams|remix|manifest|check)(-\d+-of-\d+)?\.csv$|\.log$|\.jsonl?$"
    r"|\.ckpt$|(best|last)\.safetensors$|curves\.(png|svg)$"
)
PARTIAL = re.compile(r"\.partial\.jsonl?$")  # what the same command goes on from


def commands(data: str) -> dict[str, list[str]]:
    """Return the command lines by name; `disk` is the small disk."""
    score = ["evaluate", "toy", "--data", data, "--split", "train", "-o", "disk/out"]
    separate = ["separate", "talks", "-o", "disk/out", "--model", "toy"]
    return {
        "import": ["import", str(FOREIGN / "convtasnet.pth"), "-o", "disk/out/x.safetensors"],
        "pull": ["pull", "./pushed", "-o", "disk/out", "--name", "far"],
        "push": ["push", "toy", "./disk/out"],
        "evaluate": [*score, "--report"],
        "evaluate, workers": [*score, "--workers", "2"],
        "evaluate, momi": [*score, "--metric", "momi"],
        "kaldi": [*score, "--metric", "si-snr", "--kaldi-export", "disk/out/kaldi"],
        "separate": separate,
        "separate, all": [*separate, "--report", "--figure", "png", "--labels", "rttm", "--residual"],
        "separate, flac": [*separate, "--format", "flac", "--shard", "1/1"],
        "remix": ["remix", "long/mix.wav", "--model", "toy", "--gain", "1=-6", "-o", "disk/out/new.wav"],
        "remix, flac": ["remix", "data/train0_s1.wav", "data/train0_s2.wav", "--peak", "limit",
                        "-o", "disk/out/n.flac"],
        "remix --shuffle": ["remix", "--shuffle", data, "--model", "toy", "--batch", "2", "-o", "disk/out"],
        "prepare-data": ["prepare-data", "data", "-o", "disk/out", "--corpus", "folder", "--workers", "1"],
        "prepare-data, talkers": ["prepare-data", "talkers", "-o", "disk/out", "--corpus", "speakers", "--train", "6",
                                  "--valid", "2", "--test", "2", "--seconds", "0.5", "--workers", "2"],
        "prepare-data, tars": ["prepare-data", "talkers", "-o", "disk/out", "--corpus", "speakers", "--train", "6",
                               "--valid", "2", "--test", "2", "--seconds", "0.5", "--shards", "50KB"],
        "check": ["prepare-data", data, "--check", "-o", "disk/out"],
        "listen": ["listen", "make", "toy", "--data", data, "--split", "train", "-n", "4", "-o", "disk/out"],
        "train": ["train", "--profile", "tiny.yaml", "-o", "disk/out"],
        "train, bad files": ["train", "--profile", "bad.yaml", "-o", "disk/out"],
        "export, pt2": ["export", "toy", "--to", "torch-export", "-o", "disk/out/toy.pt2"],
        "export, onnx": ["export", "toy", "--to", "onnx", "-o", "disk/out/toy.onnx"],
    }  # fmt: skip


def usep(*words: str, limit: int = 600) -> tuple[int, str]:
    """Return the exit code of a command in a process of its own, and what it said on stderr; -14 where it hung."""
    with tempfile.TemporaryFile() as said, open(os.devnull, "w") as nowhere:
        child = os.fork()  # with torch in memory: loading it takes longer than most of these commands
        if child == 0:
            signal.alarm(limit)
            os.dup2(nowhere.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout, sys.stderr = io.TextIOWrapper(io.FileIO(1, "w")), io.TextIOWrapper(io.FileIO(2, "w"))
            sys.argv, code = ["usep", *words], 1
            try:
                app.main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException as fault:
                sys.stderr.write(f"Traceback: {fault!r}")
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")


def tree(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder, but for locks."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("lock")
    }


@contextlib.contextmanager
def disk(at: Path) -> Iterator[Path]:
    """Mount an empty tmpfs for the block."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(at: Path, room: int) -> None:
    """Leave so many bytes of a disk free."""
    filler = at / "filler"
    filler.unlink(missing_ok=True)
    free = os.statvfs(at).f_bavail * PAGE
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(PAGE, free - room))


def prepared() -> str:
    """Write data, models and profiles into the working folder and return the name of the data."""
    import numpy as np

    from usepcli.audio import io as audio

    Path("data").mkdir()
    damage.corpus(Path("data"))
    Path("tiny.yaml").write_text(damage.PROFILE.format(data="data"))
    Path("holes").mkdir()
    damage.corpus(Path("holes"))
    for i in (1, 3):
        (Path("holes") / f"train{i}_s1.wav").write_bytes(b"no sound")
    bad = damage.PROFILE.format(data="holes").replace("segment_s: 0.5", "segment_s: 0.5, max_bad: 1.0")
    Path("bad.yaml").write_text(bad)
    code, said = usep("train", "--profile", "tiny.yaml", "-o", "run")
    assert code == 0, said
    Path("models").mkdir()
    os.replace(Path("run") / "best.safetensors", Path("models") / "toy.safetensors")
    code, said = usep("push", "toy", "./pushed")
    assert code == 0, said
    draw = np.random.default_rng(0)
    for name, seconds, count in (("talks", 3, 4), ("long", 20, 1)):
        Path(name).mkdir()
        for i in range(count):
            noise = 0.1 * draw.standard_normal(8000 * seconds)
            audio.write(Path(name) / ("mix.wav" if count == 1 else f"{i}.wav"), noise.astype(np.float32), 8000)
    for who in range(24):
        (Path("talkers") / str(who)).mkdir(parents=True)
        for i in range(2):
            wave = 0.1 * draw.standard_normal(8000).astype(np.float32)
            audio.write(Path("talkers") / str(who) / f"{i}.wav", wave, 8000)
    return "data"


def fault(code: int, said: str, at: Path, before: dict[str, str], whole: dict[str, str]) -> str:
    """Return what is wrong with what a command left on a full disk, '' for nothing."""
    wrong = []
    lines = [line for line in said.splitlines() if line.startswith("usep: ") and "error" in line]
    if code not in (73, 74) or len(lines) != 1 or "Traceback" in said:
        wrong.append(f"exit {code}")
    elif code == 74 and not ("MiB are free" in lines[0] or "No space" in lines[0]):
        wrong.append("the disk is not named")
    now = tree(at)
    now.pop("filler", None)
    wrong += [f"changed {name}" for name in before if now.get(name) != before[name]]
    wrong += [f"left {name}" for name in now if "/." in f"/{name}" or ".tmp" in name]
    for name in now.keys() - before.keys():
        if PARTIAL.search(name):
            continue
        if name not in whole:
            wrong.append(f"made {name}")
        elif now[name] != whole[name] and not GROWING.search(name):
            wrong.append(f"cut {name}" if (at / name).stat().st_size == 0 else f"another {name}")
    return "; ".join(sorted(set(wrong)))


def tried(name: str, line: list[str], parts: int, work: Path) -> int:
    """Run one command with too little room, and then with enough; return how many times something was wrong."""
    with disk(work / "disk") as at:
        free = os.statvfs(at).f_bavail * PAGE
        usual, said = usep(*line)
        need, whole = free - os.statvfs(at).f_bavail * PAGE, tree(at)
        if usual not in (0, 65) or not whole:  # 65: findings of an audit
            print(f"  {name}: exit {usual} with room enough: {said[-300:]}", flush=True)
            return 1
    wrong, codes = 0, []
    for room in sorted({need * part // parts // PAGE * PAGE for part in range(parts)} | {PAGE, need - PAGE}):
        with disk(work / "disk") as at:
            fill(at, room)
            code, said = usep(*line)
            codes.append(code)
            # Some commands need less than they leave behind, where tables are joined or states replaced.
            faults = "" if code == usual else fault(code, said, at, {}, whole)
            (at / "filler").unlink()
            again, more = usep(*line)
            if again != usual:
                faults += f"; then exit {again}: {more[-200:]}"
            elif tree(at).keys() != whole.keys():
                faults += f"; then other files: {sorted(tree(at).keys() ^ whole.keys())}"
        if faults:
            wrong += 1
            print(f"  {name}, {room >> 10} of {need >> 10} KiB: {faults}\n    {said.strip()[-400:]}", flush=True)
    print(f"{name:24} needs {need >> 10:6} KiB; exit codes {codes}; {wrong} wrong", flush=True)
    return wrong


def main() -> int:
    """Run all commands and print one line for each."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", default="", help="commands whose name holds this")
    asked.add_argument("--parts", type=int, default=6)
    words = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="full_") as work, contextlib.chdir(work):
        data = prepared()
        lines = {name: line for name, line in commands(data).items() if words.only in name}
        return int(sum(tried(name, line, words.parts, Path(work)) for name, line in lines.items()) > 0)


if __name__ == "__main__":
    sys.exit(main())
