"""Word errors, speech metrics and the Kaldi export from the command line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import usepcli
from usepcli.audio import io

TESTSET = Path(usepcli.__file__).parent / "samples" / "testset"
Usep = Callable[..., Any]


@pytest.fixture
def usep(command: Callable[..., Usep]) -> Usep:
    """Run `usep evaluate ...` in an empty folder."""
    return command("evaluate")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[object, ...]:
    """Two items with their own sources, in the other order, as estimates."""
    voices = 0.1 * np.random.default_rng(0).standard_normal((2, 2, 8000))
    for item in (0, 1):
        for k in (0, 1):
            io.write(tmp_path / f"ref/s{k + 1}/i{item}.wav", voices[item, k], 8000)
            io.write(tmp_path / f"est/i{item}_{2 - k}.wav", voices[item, k], 8000)
    (tmp_path / "said.csv").write_text("id,source,text\ni0,1,one two\ni0,2,three\ni1,1,four\ni1,2,five\n")
    (tmp_path / "heard.csv").write_text("id,source,text\ni0,s1,one too\ni0,s2,three\ni1,s1,four\ni1,s2,\n")
    return "--estimates", "est", "--references", "ref"


def test_word_errors_of_a_table(usep: Usep, folders: tuple[object, ...]) -> None:
    """Two errors in five words, beside another metric."""
    given = ("--metric", "wer", "--metric", "si-snr", "--texts", "said.csv", "--hypotheses", "heard.csv", "-o", "out")
    code, out, err = usep(*folders, *given)
    assert code == 0, err
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert lines["wer"][1] == "40.00" and lines["wer"][5:] == ["4", "0"] and "si-snr" in lines
    rows = list(csv.DictReader(Path("out/wer.csv").read_text().splitlines()))
    assert [(row["id"], row["source"], row["wer"]) for row in rows][:2] == [("i0", "s1", "50.0"), ("i0", "s2", "0.0")]
    record = json.loads(Path("out/evaluate.json").read_text())
    assert record["wer"] == {"hypotheses": str(Path("heard.csv").resolve()), "S": 1, "D": 1, "I": 0, "N": 5}
    assert "pooled" in record["protocol"]["wer"]["wer"]


def test_word_errors_alone(usep: Usep, folders: tuple[object, ...]) -> None:
    given = ("--metric", "wer", "--texts", "said.csv", "--hypotheses", "heard.csv", "--limit", 1)
    code, out, err = usep(*folders, *given)
    assert code == 0, err
    assert len(out.splitlines()) == 2 and out.splitlines()[1].split()[:2] == ["wer", "33.33"]  # i0: one of three
    assert not Path("evaluation/items.csv").exists()


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--metric", "wer", "--texts", "said.csv"], 2, "give its words with --hypotheses FILE"),
        (["--metric", "wer", "--texts", "said.csv", "--hypotheses", "a", "--asr", "b"], 2, "one of them"),
        (["--hypotheses", "heard.csv"], 2, "--hypotheses and --asr are read for --metric wer"),
        (["--texts", "said.csv"], 2, "--texts is read for --metric wer and --kaldi-export"),
        (["--metric", "wer", "--hypotheses", "heard.csv"], 2, "give --texts FILE"),
        (["--metric", "wer", "--texts", "said.csv", "--hypotheses", "none.csv"], 66, "none.csv: no such file"),
        (["--metric", "wer", "--texts", "said.csv", "--asr", "none"], 66, "none: no config.json in it"),
    ],
)
def test_what_does_not_fit_is_said(
    usep: Usep, folders: tuple[object, ...], given: list[str], code: int, said: str
) -> None:
    found, out, err = usep(*folders, *given)
    assert (found, out) == (code, "") and said in err and "Traceback" not in err


def test_the_manifest_may_lack_texts(usep: Usep) -> None:
    Path("heard.csv").write_text("id,source,text\n")
    code, _, err = usep("--data", TESTSET, "--metric", "wer", "--hypotheses", "heard.csv", "--limit", 1)
    assert code == 65 and "no texts; word errors need them" in err


def test_estimates_are_exported_for_kaldi(usep: Usep, folders: tuple[object, ...], tmp_path: Path) -> None:
    given = ("--metric", "si-snr", "--kaldi-export", "kaldi", "--texts", "said.csv")
    code, _, err = usep(*folders, *given)
    assert code == 0 and "for Kaldi: kaldi, 4 utterances, 4 with texts" in err
    for name in ("i0_0", "i0_1", "i1_0", "i1_1"):  # in the order of the references again
        item, k = name.split("_")
        reference = io.read(tmp_path / f"ref/s{int(k) + 1}/{item}.wav")[0]
        np.testing.assert_array_equal(io.read(tmp_path / f"kaldi/wav8k/{name}.wav")[0], reference)
    assert Path("kaldi/text").read_text().splitlines()[0] == "i0_0 one two"
    code, _, err = usep(*folders, *given, "-o", "other")
    assert code == 73 and "exists already" in err


def test_an_export_without_references_is_refused_before_scoring(usep: Usep, tmp_path: Path) -> None:
    for name in ("a", "b"):
        io.write(tmp_path / f"{name}.wav", np.full(8000, 0.1, np.float32), 8000)
    (tmp_path / "manifest.csv").write_text(
        "id,split,mixture,sources,sample_rate,frames\na,test,a.wav,,8000,8000\nb,test,b.wav,,8000,8000\n"
    )
    code, _, err = usep("default", "--data", "manifest.csv", "--metric", "momi", "--kaldi-export", "kaldi")
    assert code == 65 and "no item lists sources, in whose order --kaldi-export" in err and "momi:" not in err
    assert not Path("kaldi").exists() and not Path("evaluation").exists()


def test_a_models_estimates_are_exported_with_the_manifests_speakers(usep: Usep) -> None:
    code, _, err = usep("default", "--metric", "si-snr", "--limit", 1, "--kaldi-export", "kaldi", "-q")
    assert (code, err) == (0, "")
    (first, second) = (line.split() for line in Path("kaldi/utt2spk").read_text().splitlines())
    assert first[0].startswith(f"{first[1]}-") and second[0].startswith(f"{second[1]}-") and first[1] != second[1]
    assert len(list(Path("kaldi/wav8k").rglob("*.wav"))) == 2


def test_speech_metrics_beside_others(usep: Usep) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    code, out, err = usep("default", "--metric", "pesq", "--metric", "stoii", "--limit", 1, "-q")
    assert (code, err) == (0, "")
    means = {line.split()[0]: float(line.split()[1]) for line in out.splitlines()[1:]}
    assert 1 < means["pesq"] < 4.6 and 0 < means["stoii"] < 1


def test_a_missing_library_empties_its_column_or_ends_the_run(usep: Usep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    code, out, err = usep("default", "--metric", "pesq", "--metric", "si-snr", "--limit", 1)
    assert code == 0 and "pesq: pesq not installed; run: pip install 'usepcli[metrics]'" in err
    assert [line.split()[-2:] for line in out.splitlines()[1:]] == [["0", "2"], ["2", "0"]]
    code, out, err = usep("default", "--metric", "pesq", "--limit", 1, "--overwrite")
    assert (code, out) == (69, "") and "pip install 'usepcli[metrics]'" in err
