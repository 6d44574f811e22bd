"""`usep listen` from the command line: a test is made, answered and counted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

import usepcli

TESTSET = Path(usepcli.__file__).parent / "samples" / "testset"
Usep = Callable[..., Any]


@pytest.fixture
def usep(command: Callable[..., Usep]) -> Usep:
    """Run `usep listen ...` in an empty folder."""
    return command("listen")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three items of two noises at 8 kHz, and estimates of them with some of the other source in it."""
    random = np.random.default_rng(0)
    for k in range(3):
        ref = 0.1 * random.normal(size=(2, 4000))
        est = ref + 0.1 * (k + 1) * ref[::-1]
        for name, waves in (("ref", ref), ("est", est)):
            (tmp_path / name / f"id{k}").mkdir(parents=True)
            for n, wave in enumerate(waves, 1):
                sf.write(tmp_path / name / f"id{k}" / f"s{n}.wav", wave, 8000)
    return tmp_path / "est", tmp_path / "ref"


def key(folder: Path) -> list[dict[str, str]]:
    with (folder / "key.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_test_of_a_model_from_drawing_to_counting(usep: Usep) -> None:
    answer = usep("make", "default", "-o", "listen", "-n", 4, "--seed", 3)
    assert answer.code == 0, answer.err
    rows = key(Path("listen"))
    assert len(rows) == 4 and {row["system"] for row in rows} == {"default"}
    page = (Path("listen") / "test.html").read_text()
    assert not [row["item"] for row in rows if row["item"] in page]
    assert not Path("evaluation").exists()
    assert usep("make", "default", "-o", "listen").code == 73
    with (Path("listen") / "answers_ann.csv").open("w") as file:
        file.write("test,listener,trial,kind,answer,seconds\n")
        for row in rows:
            right = "A" if row["a"] == row["source"] else "B"
            file.write(f"{row['test']},ann,{row['trial']},which,{right},2.0\n")
    told = usep("score", "listen")
    assert told.code == 0 and "100.0 [51.0, 100.0]" in told.out and "ann" in told.out
    assert told.out.splitlines()[0].split()[:3] == ["listener", "system", "n"]
    assert usep("score", "listen").code == 73
    found = json.loads(usep("score", "listen", "--overwrite", "--json").out)
    assert found["rows"][0]["percent"] == 100 and "Wilson" in found["notes"]["interval"]


def test_an_item_that_cannot_be_read_is_said_and_passed_over(usep: Usep, folders: tuple[Path, Path]) -> None:
    est, ref = folders
    (est / "id1" / "s2.wav").write_bytes(b"no sound")
    answer = usep("make", "--estimates", est, "--references", ref, "-o", "listen", "-n", 6)
    assert answer.code == 0 and answer.err.count("left out: ") == 1 and "id1/s2.wav" in answer.err
    assert {row["item"] for row in key(Path("listen"))} == {"id0", "id2"}


def test_two_folders_and_a_model_against_a_folder(usep: Usep, folders: tuple[Path, Path], tmp_path: Path) -> None:
    est, ref = folders
    answer = usep("make", "--estimates", est, "--references", ref, "--against", ref, "-o", "t", "-n", 2)
    assert answer.code == 0, answer.err
    rows = key(Path("t"))
    assert {row["kind"] for row in rows} == {"preference"} and {rows[0]["a"], rows[0]["b"]} == {str(est), str(ref)}
    assert str(tmp_path) not in (Path("t") / "test.html").read_text()
    both = usep(
        "make", "--estimates", est, "--references", ref, "--against", ref, "--kind", "which", "-o", "u", "-n", 2
    )  # fmt: skip
    assert both.code == 0 and sorted(row["system"] for row in key(Path("u"))) == sorted([str(est), str(ref)] * 2)
    # The true sources of the test set, by id, in place of a second model.
    own = Path("own")
    with (TESTSET / "manifest.csv").open() as file:
        for row in csv.DictReader(file):
            for n, name in enumerate(row["sources"].split(";"), 1):
                (own / f"s{n}").mkdir(parents=True, exist_ok=True)
                wave, rate = sf.read(TESTSET / name)
                sf.write(own / f"s{n}" / f"{row['id']}.wav", wave, rate)
    met = usep("make", "default", "--against", own, "-o", "v", "-n", 1)
    assert met.code == 0 and {key(Path("v"))[0]["a"], key(Path("v"))[0]["b"]} == {"default", "own"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["make", "default", "-o", "t", "--kind", "wich"], 2, "did you mean 'which'"),
        (["make", "default", "-o", "t", "--kind", "preference"], 2, "two systems"),
        (["make", "default", "-o", "t", "--against", "no-such-model"], 66, "no-such-model"),
        (["make", "default", "-o", "t", "--estimates", "x"], 2, "leave MODEL"),
        (["make", "--estimates", "x", "-o", "t"], 2, "both --estimates DIR and --references DIR"),
        (["make", "default", "-o", "t", "--data", "none"], 66, "none: no such file or folder"),
        (["score", "nowhere.csv"], 66, "no key beside the answers"),
    ],
)
def test_what_does_not_fit_together_is_said_at_once(usep: Usep, arguments: list[str], code: int, message: str) -> None:
    answer = usep(*arguments)
    assert answer.code == code and message in answer.err and not list(Path().iterdir()), answer.err
