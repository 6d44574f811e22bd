"""Damage to every file of a run folder, in every way that a disk, a copy or a hand does it; what each command says.

    python benchmarks/damage.py [--seed 0] [--only NAME] [--keep FOLDER]

A tiny run is trained once. Each of its files is cut at every sixteenth, emptied, overwritten, bitten and, where it is
JSON, CSV or a state, changed value by value into other types. On each damaged copy train, train --force with another
optimiser, model and schedule, info and evaluate run in this process. Printed are the exit codes of each command for
each file; the script ends with 1 where one met a bug (1), or where a command that refused changed a file.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from usepcli.cli import app

PROFILE = """\
licence: CC0
data: {{manifest: {data}, segment_s: 0.5}}
model: {{name: conformer_mask, preset: tiny, n_src: 2, sample_rate: 8000}}
train: {{epochs: 2, batch_size: 2, log_every: 1, ema: 0.9, checkpoint_every_s: 1000}}
valid: {{limit: 1, metric: si-snri}}
"""
OTHERS: tuple[Any, ...] = (None, True, -1, 1e30, float("nan"), "", "=x\x1b[31m", [], {}, [[]], "9" * 400)


def usep(*words: str) -> tuple[int, str]:
    """Return the exit code of a command line, run in this process, and what it said on stderr."""
    said, sys.argv = io.StringIO(), ["usep", *words]
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), said
    try:
        app.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1, said.getvalue()
    finally:
        sys.stdout, sys.stderr = streams
    return 0, said.getvalue()


def bytes_of(raw: bytes, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield damages of any file."""
    for part in range(16):
        yield f"cut at {part}/16", raw[: len(raw) * part // 16]
    yield "random bytes", draw.randbytes(len(raw))
    yield "zeros", bytes(len(raw))
    yield "a web page", b"<!doctype html><html>404</html>"
    for _ in range(6):
        bitten = bytearray(raw)
        bitten[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        yield "a flipped bit", bytes(bitten)
    at = draw.randrange(len(raw))
    yield "a block of NUL", raw[:at] + bytes(min(512, len(raw) - at)) + raw[at + 512 :]


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value of nested dictionaries and lists, three levels deep."""
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, inner in items:
        if len(at) < 3:
            yield from places(inner, (*at, key))


def changed(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    """Return a copy with one value replaced; `...` removes it."""
    if not at:
        return value
    made = copy.deepcopy(tree)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return made


def trees_of(tree: Any, draw: random.Random, most: int) -> Iterator[tuple[str, Any]]:
    """Yield copies of a tree in which one value is of another kind, or gone."""
    found = [(at, value) for at in places(tree) for value in (*OTHERS, ...) if at or value is not ...]
    for at, value in draw.sample(found, min(most, len(found))):
        yield (
            f"{'.'.join(map(str, at)) or 'all of it'} = {'gone' if value is ... else repr(value)[:20]}",
            changed(tree, at, value),
        )


def json_of(raw: bytes, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield JSON that is not what it should be."""
    yield "deep", b"[" * 100_000 + b"]" * 100_000
    yield "deep, closed", b'{"profile":' * 200 + b"1" + b"}" * 200
    yield "two objects", raw + raw
    for name, tree in trees_of(json.loads(raw), draw, 120):
        yield name, json.dumps(tree).encode()


def csv_of(raw: bytes, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield tables that are not what they should be."""
    head, *rows = raw.decode().splitlines()
    width = head.count(",") + 1
    yield "no header", "\n".join(rows).encode() + b"\n"
    yield "another header", b"a,b\n1,2\n"
    yield "header alone", head.encode() + b"\n"
    yield "a row of text", raw + b",".join([b"text"] * width) + b"\n"
    yield "a cut last row", raw[:-3]
    yield "a cut row in the middle", "\n".join([head, rows[0][: len(rows[0]) // 2], *rows[1:]]).encode() + b"\n"
    yield "a long cell", raw + b"x" * 200_000 + b"\n"
    yield "an open quotation", raw + b'"1,2\n'
    for column in range(width):
        for cell in ("", "text", "-1", "1e999", "nan", "=1+1", "\x1b[31m", "1" * 5000, "0.5"):
            cells = rows[0].split(",")
            cells[column] = cell
            yield f"column {column} is {cell[:8]!r}", "\n".join([head, ",".join(cells), *rows[1:]]).encode() + b"\n"


def states_of(path: Path, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield states, whole by their sha256, that hold something else."""
    import torch

    from usepcli.engine.training import states

    state = states.load_state(path)
    first = next(iter(state["objective"]))
    odd: list[tuple[str, Any]] = [
        ("a list", [1, 2]), ("one tensor", torch.ones(3)), ("no entries", {}), ("numbers for names", {1: 2}),
        ("another shape", changed(state, ("objective", first), torch.ones(7))),
        ("one tensor more", changed(state, ("objective", "more"), torch.ones(7))),
        ("rng cut", changed(state, ("rng",), torch.zeros(3, dtype=torch.uint8))),
        ("rng of floats", changed(state, ("rng",), torch.zeros(5056))),
    ]  # fmt: skip
    odd += [(f"{key} gone", changed(state, (key,), ...)) for key in state]
    for name, tree in [*odd, *trees_of({k: v for k, v in state.items() if k != "objective"}, draw, 150)]:
        # The large entry is not copied with every change: it comes back where the change is another.
        drawn = isinstance(tree, dict) and "objective" not in tree and len(tree) > 3
        whole = {**tree, "objective": state["objective"]} if drawn and name != "objective gone" else tree
        buffer = io.BytesIO()
        torch.save(whole, buffer)
        body = buffer.getvalue()
        yield name, states.MAGIC + hashlib.sha256(body).digest() + body


def damages(path: Path, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every damage to a file."""
    raw = path.read_bytes()
    yield from bytes_of(raw, draw)
    if path.suffix == ".json":
        yield from json_of(raw, draw)
    if path.suffix == ".csv":
        yield from csv_of(raw, draw)
    if path.suffix == ".ckpt":
        yield from states_of(path, draw)


def sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder, but for the lock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def corpus(folder: Path) -> Path:
    """Write a tiny set of two-tone mixtures and return its manifest."""
    import numpy as np

    from usepcli.audio import io as audio
    from usepcli.data.manifest import Manifest, Row

    rows, time = [], np.arange(6000) / 8000
    for split, count in (("train", 6), ("valid", 2)):
        for i in range(count):
            waves = [0.2 * np.sin(2 * np.pi * hertz * (1 + i / 9) * time) for hertz in (200, 700)]
            names = [f"{split}{i}_{part}.wav" for part in ("mix", "s1", "s2")]
            for name, wave in zip(names, [sum(waves), *waves], strict=True):
                audio.write(folder / name, np.asarray(wave, dtype=np.float32), 8000)
            rows.append(
                Row(id=f"{split}{i}", split=split, mixture=names[0], sources=tuple(names[1:]), sample_rate=8000,
                    frames=6000, n_src=2)
            )  # fmt: skip
    Manifest(rows, folder, folder / "manifest.csv").write(folder / "manifest.csv")
    return folder / "manifest.csv"


def commands(run: str, data: str) -> dict[str, list[str]]:
    """Return the command lines that read a run folder, by name."""
    train = ["train", "--profile", "tiny.yaml", "-o", run]
    return {
        "train": train,
        "train, more epochs": [*train, "--set", "train.epochs=3"],
        "--force sgd": [*train, "--force", "--set", "optim.name=sgd", "--set", "train.epochs=3"],
        "--force plateau": [*train, "--force", "--set", "schedule.name=plateau", "--set", "train.epochs=3"],
        "--force model": [*train, "--force", "--set", "model.layers=1"],
        "info": ["info", run],
        "evaluate": ["evaluate", run, "--data", data, "--split", "valid", "-o", "scores", "--overwrite"],
    }


def tried(name: str, line: list[str], run: Path) -> tuple[int, str]:
    """Run one command on a damaged folder; return its exit code, and what was wrong with that, '' for nothing."""
    before = sums(run)
    try:
        code, said = usep(*line)
    except BaseException as fault:
        return 1, f"raised {fault!r}"
    last = (said.strip().splitlines() or [""])[-1]
    if code == 1 or "a bug" in said or "unforeseen" in said or "Traceback" in said:
        return code, last
    refused = {key for key, value in sums(run).items() if before.get(key) != value} | before.keys() - sums(run).keys()
    if code not in (0, 4) and refused - {"status.json"}:
        return code, f"changed {', '.join(sorted(refused))}: {last}"
    return code, ""


def main() -> int:
    """Run all, and print one line for each file and command, and each thing that was wrong."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", default="", help="files whose name holds this")
    asked.add_argument("--share", type=float, default=1.0, help="of the damages, drawn")
    words = asked.parse_args()
    draw, wrong = random.Random(words.seed), 0
    with tempfile.TemporaryDirectory(prefix="damage_") as work, contextlib.chdir(work):
        Path("data").mkdir()
        data = corpus(Path("data"))
        Path("tiny.yaml").write_text(PROFILE.format(data=data.parent))
        lines = commands("run", str(data.parent))
        code, said = usep(*commands("whole", str(data.parent))["train"])
        assert code == 0, said
        for path in sorted(p for p in Path("whole").rglob("*") if p.is_file() and p.suffix not in (".png", ".svg")):
            counts: dict[str, Counter[int]] = {name: Counter() for name in lines}
            if words.only not in path.name:
                continue
            for kind, raw in damages(path, draw):
                if draw.random() > words.share:
                    continue
                for name, line in lines.items():
                    shutil.rmtree("run", ignore_errors=True)
                    shutil.copytree("whole", "run")
                    (Path("run") / path.relative_to("whole")).write_bytes(raw)
                    code, fault = tried(name, line, Path("run"))
                    counts[name][code] += 1
                    if fault:
                        wrong += 1
                        print(f"  {path.name}, {kind}: {name} ended with {code}: {fault[-300:]}", flush=True)
            for name, codes in counts.items():
                told = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
                print(f"{path.name:28} {name:20} {told}", flush=True)
    print(f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
