"""`usep evaluate --report` from the command line, and the options that `usep listen` replaces."""

from __future__ import annotations

import csv
import shlex
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


def table(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


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


def test_the_page_shows_oracle_and_mixture_beside(usep: Usep) -> None:
    answer = usep("default", "--report", "-o", "out", "--limit", 2, "--protocol", "advpit2023", "--oracle", "irm",
        "--consistency", "none",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    page = (Path("out") / "report.html").read_text()
    assert "By number of sources" in page and "2 sources, 2 items" in page
    assert "Items with fewer, as many and more outputs: under 0 %, equal 100 %, over 0 %" in page
    summary = {(row["system"], row["metric"]): row for row in table("out/summary.csv")}
    for system in ("oracle irm 512/128", "separated", "consistency none", "unprocessed"):
        assert f"{system}: {float(summary[system, 'MSi']['mean']):.2f} dB" in page
    lost = {(row["system"], row["item"], row["source"]): float(row["holes_energy"]) for row in table("out/holes.csv")}
    assert len(lost) == 12 and {system for system, _, _ in lost} == {"oracle irm 512/128", "separated", "unprocessed"}
    assert max(value for (system, *_), value in lost.items() if system.startswith("oracle")) < 0.01


def test_a_page_under_a_protocol(usep: Usep) -> None:
    answer = usep("default", "--protocol", "saijo2023", "--report", "-o", "out", "--limit", 2)
    assert answer.code == 0, answer.err
    page = (Path("out") / "report.html").read_text()
    assert "MSi" in page and "saijo2023" in page and '"kind":"mixture"' in page


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--report-by", "snr"], 2, "add --report"),
        (["--report", "--report-by", "snr"], 2, "unknown score for --report-by 'snr'"),
        (["--report", "--metric", "momi"], 2, "--report needs a --metric per source"),
        (["--against", "x"], 2, "belong to `usep listen make MODEL -o DIR`"),
        (["--key", "key.csv"], 2, "--key is read by `usep listen score ANSWERS`"),
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


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (
            ["default", "--listening-test", "t", "-n", 2, "--seed", 3],
            "make default --out t --seed 3 --trials 2",
        ),
        (
            ["--estimates", "est", "--references", "ref", "--against", "ref", "--listening-kind", "which",
             "--listening-test", "t", "-n", "2", "-q"],
            "make --out t --kind which --estimates est --references ref --against ref --trials 2 --quiet",
        ),
    ],
)  # fmt: skip
def test_the_earlier_options_do_what_the_line_that_they_print_does(
    usep: Usep, command: Callable[..., Usep], folders: tuple[Path, Path], arguments: list[Any], typed: str
) -> None:
    answer = usep(*arguments)
    assert answer.code == 0, answer.err
    assert f"type: usep listen {typed}\n" in answer.err
    before = {path.name: path.read_bytes() for path in Path("t").iterdir()}
    again = command("listen")(*shlex.split(typed), "--overwrite")
    assert again.code == 0 and again.out == answer.out
    assert {path.name: path.read_bytes() for path in Path("t").iterdir()} == before
    (Path("t") / "answers_a.csv").write_text("test,listener,trial,kind,answer,seconds\n")
    told = usep("--listening-score", "t", "--json")
    assert told.code == 65 and "type: usep listen score t --json\n" in told.err


def test_the_earlier_options_are_in_no_help(usep: Usep) -> None:
    shown = usep("--help").out
    assert "--listening" not in shown and "--against" not in shown and "--trials" not in shown
