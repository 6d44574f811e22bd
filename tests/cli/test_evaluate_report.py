"""`usep evaluate --report`, `--listening-test` and `--listening-score` from the command line."""

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
    """Run `usep evaluate ...` in an empty folder."""
    return command("evaluate")


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


def test_the_page_of_a_model_stands_beside_its_tables(usep: Usep) -> None:
    answer = usep("default", "--report", "-o", "out", "--limit", 3, "--metric", "si-snri", "--metric", "snr")
    assert answer.code == 0, answer.err
    page = (Path("out") / "report.html").read_text()
    assert "Evaluation of default" in page and "permutation with the best mean SI-SNR" in page
    assert page.count('data-player="item') == 3 and "Best: " in page and "Worst: " in page
    with (Path("out") / "holes.csv").open() as file:
        lost = list(csv.DictReader(file))
    assert len(lost) == 6 and all(0 <= float(row["holes_energy"]) <= 1 for row in lost)
    assert usep("default", "--report", "-o", "out", "--limit", 3).code == 73
    # A later evaluation without a page leaves none of the earlier behind.
    assert usep("default", "-o", "out", "--limit", 1, "--overwrite").code == 0
    assert not (Path("out") / "report.html").exists() and not (Path("out") / "holes.csv").exists()


def test_the_page_of_separated_files_with_conditions_and_an_earlier_evaluation(
    usep: Usep, folders: tuple[Path, Path]
) -> None:
    est, ref = folders
    files = ("--estimates", est, "--references", ref, "--metric", "si-snr")
    assert usep(*files, "-o", "first").code == 0
    answer = usep(*files, "-o", "out", "--report", "--by", "source", "--versus", "first", "--report-by", "si-snr")
    assert answer.code == 0, answer.err
    page = (Path("out") / "report.html").read_text()
    assert "By source" in page and "Against earlier evaluations" in page and '"kind":"mixture"' not in page
    # Leakage of -20, -14 and -10.5 dB: the items in this order, best first.
    assert [page.index(f"{rank}: <code>id{k}</code>") for k, rank in enumerate(("Best", "Median", "Worst"))] == sorted(
        page.index(f"{rank}: <code>id{k}</code>") for k, rank in enumerate(("Best", "Median", "Worst"))
    )


def test_a_page_under_a_protocol(usep: Usep) -> None:
    answer = usep("default", "--protocol", "saijo2023", "--report", "-o", "out", "--limit", 2)
    assert answer.code == 0, answer.err
    page = (Path("out") / "report.html").read_text()
    assert "MSi" in page and "saijo2023" in page and '"kind":"mixture"' in page


def test_a_test_of_a_model_from_drawing_to_counting(usep: Usep) -> None:
    answer = usep("default", "--listening-test", "listen", "-n", 4, "--seed", 3)
    assert answer.code == 0, answer.err
    rows = key(Path("listen"))
    assert len(rows) == 4 and {row["system"] for row in rows} == {"default"}
    page = (Path("listen") / "test.html").read_text()
    assert not [row["item"] for row in rows if row["item"] in page]
    assert not Path("evaluation").exists()
    assert usep("default", "--listening-test", "listen").code == 73
    with (Path("listen") / "answers_ann.csv").open("w") as file:
        file.write("test,listener,trial,kind,answer,seconds\n")
        for row in rows:
            right = "A" if row["a"] == row["source"] else "B"
            file.write(f"{row['test']},ann,{row['trial']},which,{right},2.0\n")
    told = usep("--listening-score", "listen")
    assert told.code == 0 and "100.0 [51.0, 100.0]" in told.out and "ann" in told.out
    assert told.out.splitlines()[0].split()[:3] == ["listener", "system", "n"]
    assert usep("--listening-score", "listen").code == 73
    found = json.loads(usep("--listening-score", "listen", "--overwrite", "--json").out)
    assert found["rows"][0]["percent"] == 100 and "Wilson" in found["notes"]["interval"]


def test_two_folders_and_a_model_against_a_folder(usep: Usep, folders: tuple[Path, Path], tmp_path: Path) -> None:
    est, ref = folders
    answer = usep("--estimates", est, "--references", ref, "--against", ref, "--listening-test", "t", "-n", 2)
    assert answer.code == 0, answer.err
    rows = key(Path("t"))
    assert {row["kind"] for row in rows} == {"preference"} and {rows[0]["a"], rows[0]["b"]} == {str(est), str(ref)}
    assert str(tmp_path) not in (Path("t") / "test.html").read_text()
    both = usep(
        "--estimates", est, "--references", ref, "--against", ref, "--listening-kind", "which",
        "--listening-test", "u", "-n", 2,
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
    met = usep("default", "--against", own, "--listening-test", "v", "-n", 1)
    assert met.code == 0 and {key(Path("v"))[0]["a"], key(Path("v"))[0]["b"]} == {"default", "own"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--report-by", "snr"], 2, "add --report"),
        (["--report", "--report-by", "snr"], 2, "unknown score for --report-by 'snr'"),
        (["--report", "--metric", "momi"], 2, "--report needs a --metric per source"),
        (["--against", "x"], 2, "belong to --listening-test"),
        (["--key", "key.csv"], 2, "--key is read for --listening-score"),
        (["--listening-test", "t", "--report"], 2, "leave --report away"),
        (["--listening-test", "t", "--listening-kind", "wich"], 2, "did you mean 'which'"),
        (["--listening-test", "t", "--listening-kind", "preference"], 2, "two systems"),
        (["--listening-test", "t", "--against", "no-such-model"], 66, "no-such-model"),
        (["--listening-score", "a.csv", "b.csv"], 2, "leave 'b.csv' away; of several listeners give the folder"),
        (["--listening-score", "nowhere.csv"], 66, "no key beside the answers"),
    ],
)
def test_what_does_not_fit_together_is_said_at_once(usep: Usep, arguments: list[str], code: int, message: str) -> None:
    model = [] if "--listening-score" in arguments else ["default"]
    answer = usep(*model, *arguments, "--limit", 1)
    assert answer.code == code and message in answer.err and not list(Path().iterdir()), answer.err
