"""`usep evaluate` with protocols, comparisons and spreads."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import usepcli
from usepcli.data.manifest import Manifest
from usepcli.weights import build, cards, store

TESTSET = Path(usepcli.__file__).parent / "samples" / "testset"
Usep = Callable[..., Any]


@pytest.fixture
def usep(command: Callable[..., Usep], tmp_path: Path) -> Usep:
    """Run `usep evaluate ...` in an empty folder but for three untrained models."""
    for seed, (name, n_src) in enumerate({"one": 2, "two": 2, "four": 4}.items()):
        torch.manual_seed(seed)
        model = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": n_src, "sample_rate": 8000})
        config = build.config_of(model)
        card = cards.Card(name=name, model=config, sample_rate=8000, n_src=n_src, objective="pit", steps=1)
        store.save_model(tmp_path / f"{name}.safetensors", model.state_dict(), card)
    return command("evaluate")


ONE = ("one.safetensors", "--data", TESTSET, "--limit", 3)
TWO = ("two.safetensors", "--data", TESTSET, "--limit", 3)


def table(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_protocol_names_itself_and_leaves_its_tables(usep: Usep) -> None:
    answer = usep(*ONE, "--protocol", "saijo2023", "-o", "scores")
    assert answer.code == 0 and "protocol: saijo2023" in answer.err and "means removed" in answer.err
    assert [line.split()[0] for line in answer.out.splitlines()[:7]] == [
        "metric", "1S", "2Si", "3Si", "4Si", "MSi", "TRF",
    ]  # fmt: skip
    assert list(table("scores/items.csv")[0]) == [
        "id", "source", "k", "n_est", "n_out", "si-snr", "mix", "imp", "power", "ref_power", "counted", "reason",
    ]  # fmt: skip
    assert [row["items"] for row in table("scores/confusion.csv")] == ["0", "3", "0", "0"]
    record = json.loads(Path("scores/evaluate.json").read_text())
    assert record["protocol"]["name"] == "saijo2023" and record["confusion"][1]["k"] == 2
    assert record["settings"]["metrics"] == []


def test_unprocessed_is_a_second_system_in_the_same_pipeline(usep: Usep) -> None:
    answer = usep(*ONE, "--metric", "si-snr", "--metric", "si-snri", "--unprocessed", "-o", "scores")
    assert answer.code == 0
    rows = {(row["system"], row["metric"]): row for row in table("scores/summary.csv")}
    assert set(rows) == {(s, m) for s in ("separated", "unprocessed") for m in ("si-snr", "si-snri")}
    assert float(rows["unprocessed", "si-snri"]["mean"]) == pytest.approx(0, abs=1e-9)
    gain = [float(rows[system, "si-snr"]["mean"]) for system in ("separated", "unprocessed")]
    assert float(rows["separated", "si-snri"]["mean"]) == pytest.approx(gain[0] - gain[1], abs=1e-5)
    assert len(table("scores/items_unprocessed.csv")) == len(table("scores/items.csv")) == 6


def test_oracles_stand_above_and_the_mixture_below(usep: Usep) -> None:
    answer = usep(
        *ONE, "--metric", "si-snri", "--oracle", "irm", "--oracle", "ipsm", "--stft", "256/64", "-o", "scores"
    )
    assert answer.code == 0
    rows = table("scores/summary.csv")
    assert [row["system"] for row in rows] == ["oracle irm 256/64", "oracle psm 256/64", "separated", "unprocessed"]
    irm, psm, ours, none = (float(row["mean"]) for row in rows)
    assert psm > irm > max(ours, none) and none == pytest.approx(0, abs=1e-9)  # ours has learned nothing
    oracles = table("scores/items_oracle.csv")
    assert len(oracles) == 2 * len(table("scores/items.csv")) and oracles[0]["system"] == "oracle irm 256/64"
    said = json.loads(Path("scores/evaluate.json").read_text())["protocol"]["oracles"]
    assert said.startswith("irm 256/64, psm 256/64: mask, window and hop")


def test_oracles_go_by_a_protocol_too(usep: Usep) -> None:
    assert usep(*ONE, "--protocol", "advpit2023", "--oracle", "irm", "-o", "scores").code == 0
    rows = {(row["system"], row["metric"]): float(row["mean"]) for row in table("scores/summary.csv")}
    assert rows["oracle irm 512/128", "SI-SNR_I"] > rows["unprocessed", "SI-SNR_I"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--bounds", "--data", TESTSET, "--metric", "si-snri"),
        ("--bounds", "--data", TESTSET, "--protocol", "advpit2023"),
        ("--references", TESTSET, "--mixtures", TESTSET, "--oracle", "irm", "--metric", "si-snri"),
        (*ONE, "--oracle", "irm", "--consistency", "both", "--metric", "si-snri"),
    ],
)
def test_another_process_scores_the_same(usep: Usep, words: tuple[object, ...]) -> None:
    for workers in (0, 1):
        answer = usep(*words, "--limit", 2, "--workers", workers, "-o", f"scores{workers}", "-q")
        assert answer.code == 0, answer.err
    for name in ("items.csv", "summary.csv"):
        assert Path("scores1", name).read_bytes() == Path("scores0", name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--oracle", "irn"], "did you mean"),
        (["--stft", "512/128"], "--stft is that of --oracle"),
        (["--oracle", "irm", "--stft", "512"], "expected WINDOW/HOP"),
        (["--oracle", "irm", "--metric", "momi"], "need a --metric per source"),
    ],
)
def test_oracles_that_cannot_be(usep: Usep, words: list[str], said: str) -> None:
    answer = usep(*ONE, *words, "-o", "scores")
    assert answer.code == 2 and said in answer.err


def test_assignments_are_named_and_not_mixed(usep: Usep) -> None:
    assert usep(*ONE, "--metric", "si-snri", "-o", "plain").code == 0
    ask = (*ONE, "--metric", "si-snri", "--assign", "frame", "--stft", "256/64")
    answer = usep(*ask, "-o", "scores")
    assert answer.code == 0 and "assignment: frame: optimal" in answer.err and "256/64 samples" in answer.err
    found = [(row["system"], row["assign"]) for row in table("scores/summary.csv")]
    assert found == [("separated", "frame"), ("assign default", "default")]
    assert {row["assign"] for row in table("scores/items.csv")} == {"frame"}
    beside = [row["si-snri"] for row in table("scores/items_assign.csv")]
    assert beside == [row["si-snri"] for row in table("plain/items.csv")]
    for first, second in (((*ask, "-o", "a"), "plain"), ((*ONE, "--metric", "si-snri", "-o", "b"), "scores")):
        answer = usep(*first, "--versus", second)
        assert answer.code == 65 and "no comparison means anything" in answer.err


def test_consistency_is_scored_with_and_without(usep: Usep) -> None:
    ask = (*ONE, "--protocol", "advpit2023")
    assert usep(*ask, "-o", "plain").code == 0
    more = (*ask, "--consistency", "both", "--oracle", "irm", "--stats", "--report")
    answer = usep(*more, "-o", "whole")
    assert answer.code == 0, answer.err
    systems = list(dict.fromkeys(row["system"] for row in table("whole/summary.csv")))
    assert systems == ["oracle irm 512/128", "separated", "consistency none", "unprocessed"]
    assert "consistency none" in answer.out and "consistency none" in Path("whole/report.html").read_text()
    assert Path("whole/items.csv").read_bytes() == Path("plain/items.csv").read_bytes()
    rows = table("whole/items_consistency.csv")
    assert len(rows) == 6 and list(rows[0]) == ["system", *table("plain/items.csv")[0]]
    said = json.loads(Path("whole/evaluate.json").read_text())["protocol"]["consistency"]
    assert said == "separated: uniform, as in its training; consistency none: the same outputs of the network"
    assert "holds these results already" in usep(*more, "-o", "whole").err
    assert usep(*ask, "-o", "whole").code == 73  # other results, and not to be lost
    for share in ("2/2", "1/2"):
        assert usep(*more, "-o", "parts", "--shard", share).code == 0
    assert usep(*more, "-o", "parts", "--merge").code == 0
    for name in ("summary.csv", "items.csv", "items_consistency.csv"):
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*ONE, "--consistency", "unifrom"), "did you mean 'uniform'"),
        ((*ONE, "--consistency", "learned"), "one.safetensors was trained with consistency uniform and learned no"),
        ((*ONE, "--consistency", "both", "--metric", "momi"), "--consistency, --stats, --by and --versus need"),
        (("--estimates", "a", "--references", "b", "--consistency", "none"), "it needs a MODEL, not files"),
        (("--bounds", "--data", TESTSET, "--consistency", "none"), "it needs a MODEL, not --bounds"),
    ],
)
def test_consistency_that_cannot_be(usep: Usep, words: tuple[object, ...], said: str) -> None:
    answer = usep(*words, "-o", "scores")
    assert answer.code == 2 and said in answer.err and not Path("scores").exists()


def test_versus_and_stats_between_two_models(usep: Usep) -> None:
    assert usep(*ONE, "-o", "first", "-q").code == 0
    answer = usep(*TWO, "-o", "second", "--versus", "first", "--stats")
    assert answer.code == 0
    (row,) = table("second/versus.csv")
    means = [float(table(f"{folder}/summary.csv")[0]["mean"]) for folder in ("second", "first")]
    assert float(row["difference"]) == pytest.approx(means[0] - means[1], abs=1e-6)
    assert (row["versus"], row["n"], row["items"], row["unpaired"]) == ("first/items.csv", "6", "3", "0")
    spread = table("second/stats.csv")
    assert [(r["condition"], r["kind"]) for r in spread] == [
        ("this", "within"), ("first/items.csv", "within"), ("pooled", "within"),
    ]  # fmt: skip
    assert "p_wilcoxon" in answer.out and "band95" in answer.out
    record = json.loads(Path("second/evaluate.json").read_text())
    assert record["versus"]["seed"] == 0 and record["stats"]["notes"]["band95"].startswith("1.96 sd")
    assert "Student's t" in record["stats"]["notes"]["interval"]


def test_versus_refuses_another_protocol_and_another_rate_before_scoring(usep: Usep) -> None:
    assert usep(*ONE, "-o", "first", "-q").code == 0
    answer = usep(*TWO, "--protocol", "saijo2023", "-o", "second", "--versus", "first")
    assert answer.code == 65 and "scored by protocol usep, this by saijo2023" in answer.err
    record = json.loads(Path("first/evaluate.json").read_text())
    record["data"]["sample_rate"] = 16000
    Path("first/evaluate.json").write_text(json.dumps(record))
    answer = usep(*TWO, "-o", "second", "--versus", "first")
    assert answer.code == 65 and "16000 Hz" in answer.err and not Path("second").exists()


def test_separated_files_meet_a_model_on_the_same_references(usep: Usep) -> None:
    for item in sorted(TESTSET.iterdir()):
        if item.is_dir():
            for k in (1, 2):
                Path("est").mkdir(exist_ok=True)
                shutil.copy(item / "mix.flac", f"est/{item.name}_{k}.flac")
    files = ("--estimates", "est", "--references", TESTSET, "--limit", 3)
    assert usep(*files, "--metric", "si-snr", "-o", "files").code == 0
    assert usep(*ONE, "--metric", "si-snr", "-o", "model", "--versus", "files", "--by", "source").code == 0
    (row,) = table("model/versus.csv")
    assert row["n"] == "6"
    assert {r["condition"] for r in table("model/stats.csv")} == {"s1", "s2", "pooled"}
    # A protocol needs no mixtures: they are the sums of the references, and so score nothing better than themselves.
    assert usep(*files, "--protocol", "mixit2020", "--unprocessed", "-o", "sums").code == 0
    found = {(row["system"], row["metric"]): row["mean"] for row in table("sums/summary.csv")}
    assert float(found["unprocessed", "MSi"]) == pytest.approx(0, abs=1e-6)
    assert float(found["separated", "MSi"]) == pytest.approx(0, abs=0.05)  # 16-bit mixtures


def test_momi_beside_msi_and_beside_other_metrics(usep: Usep) -> None:
    data = ("four.safetensors", "--data", TESTSET)
    answer = usep(*data, "--metric", "momi", "--seed", 3, "-o", "alone")
    assert answer.code == 0 and "momi against msi, 4 sums: Pearson" in answer.err
    assert [line.split()[0] for line in answer.out.splitlines()] == ["metric", "momi", "msi"]
    rows, record = table("alone/momi.csv"), json.loads(Path("alone/evaluate.json").read_text())
    assert list(rows[0]) == ["id", "momi", "msi"] and len(rows) == 4 and not Path("alone/items.csv").exists()
    assert {name: record["momi"][name] for name in ("pairs", "seed", "n")} == {"pairs": 4, "seed": 3, "n": 4}
    x, y = ([float(row[name]) for row in rows] for name in ("momi", "msi"))
    assert record["momi"]["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert Path("alone/momi_msi.png").read_bytes().startswith(b"\x89PNG")
    assert Path("alone/momi_msi.svg").read_bytes().startswith(b"<?xml")
    assert usep(*data, "--metric", "momi", "--metric", "snr", "--mom-pairs", 1, "--limit", 4, "-o", "both").code == 0
    assert [row["metric"] for row in table("both/summary.csv")] == ["snr", "momi", "msi"]
    assert len(table("both/momi.csv")) == 1


def test_momi_opens_no_source_that_is_not_there(usep: Usep) -> None:
    Path("bare").mkdir()
    lines = (TESTSET / "manifest.csv").read_text().splitlines()
    names = lines[0].split(",")
    for number, line in enumerate(lines[1:], 1):
        cells = line.split(",")
        cells[names.index("sources")] = ""
        cells[names.index("mixture")] = str(TESTSET / cells[names.index("mixture")])
        lines[number] = ",".join(cells)
    Path("bare/manifest.csv").write_text("\n".join(lines) + "\n")
    answer = usep("one.safetensors", "--data", "bare", "--metric", "momi", "-o", "scores")
    assert answer.code == 0 and "no picture of momi against msi: no msi" in answer.err
    assert [row["metric"] for row in table("scores/summary.csv")] == ["momi"]
    answer = usep("one.safetensors", "--data", "bare", "--limit", 1, "--metric", "momi", "-o", "few")
    assert answer.code == 65 and "momi adds two up" in answer.err


def test_by_takes_columns_of_the_manifest(usep: Usep) -> None:
    assert usep(*ONE, "--by", "label", "-o", "scores", "-q").code == 0
    (row,) = table("scores/stats.csv")
    assert (row["by"], row["condition"], row["n"]) == ("label", "read English", "3")


def test_by_query_tells_what_each_source_is_asked_by(usep: Usep) -> None:
    Path("asked").mkdir()
    lines = [line.split(",") for line in (TESTSET / "manifest.csv").read_text().splitlines()]
    mixture, sources = lines[0].index("mixture"), lines[0].index("sources")
    for number, cells in enumerate(lines[1:]):
        cells[mixture] = str(TESTSET / cells[mixture])
        cells[sources] = ";".join(str(TESTSET / name) for name in cells[sources].split(";"))
        cells.append("a man;a woman" if number else "a woman;a child")
    lines[0].append("queries")
    Path("asked/manifest.csv").write_text("".join(",".join(cells) + "\n" for cells in lines))
    assert (
        usep(ONE[0], "--data", "asked", *ONE[3:], "--metric", "si-snr", "--by", "query", "-o", "scores", "-q").code == 0
    )
    items, stats = table("scores/items.csv"), {row["condition"]: row for row in table("scores/stats.csv")}
    assert {name: int(row["n"]) for name, row in stats.items()} == {"a child": 1, "a man": 2, "a woman": 3, "pooled": 6}
    assert float(stats["a child"]["mean"]) == pytest.approx(float(items[1]["si-snr"]), abs=1e-6)
    answer = usep(*ONE, "--metric", "si-snr", "--by", "query", "-o", "none", "-q")
    assert answer.code == 2 and "--by query: the manifest has no queries" in answer.err and not Path("none").exists()


def test_compare_shows_the_scores_and_refuses_other_data(usep: Usep) -> None:
    answer = usep(*ONE, "--protocol", "saijo2023", "--compare", "fuss_remixit", "-o", "scores", "--json")
    assert answer.code == 65 and "corpus fuss was expected, this is speakers" in answer.err
    assert json.loads(answer.out)["items"] == 3 and Path("scores/summary.csv").exists()
    assert not Path("scores/compare.csv").exists()
    answer = usep(*ONE, "--compare", "wsj0_2mix_pit", "--figure", "f.png", "-o", "drawn")
    assert answer.code == 65 and not Path("f.png").exists(), "a figure of what cannot be compared"


def test_compare_puts_published_numbers_beside_ours(usep: Usep) -> None:
    shutil.copytree(TESTSET, "fuss")
    Path("fuss/prepare.json").write_text(
        json.dumps({"corpus": "wsj-mix", "root": ".", "settings": {"noise": "chime3"}, "sha256": {}})
    )
    scored = ("one.safetensors", "--data", "fuss", "--metric", "si-snr", "--compare", "wsj0_remixit")
    answer = usep(*scored, "-o", "scores")
    assert answer.code == 0 and "Table 1" in answer.out
    rows = {row["metric"]: row for row in table("scores/compare.csv")}
    assert float(rows["si-snr"]["published"]) == 10.3 and float(rows["si-snr"]["ours"]) < 10
    assert json.loads(usep(*scored, "-o", "again", "--json", "-q").out)["compare"][0]["published"] == 10.3
    answer = usep(*scored, "--figure", "f.svg", "-o", "drawn", "-q")
    assert answer.code == 2 and "score one with --metric si-snri" in answer.err
    answer = usep(*scored, "--metric", "si-snri", "--figure", "f.svg", "-o", "drawn", "--overwrite", "-q")
    assert answer.code == 0 and "(ours)" in Path("f.svg").read_text()


def test_a_table_of_words_needs_no_model(usep: Usep) -> None:
    Path("heard.tsv").write_text("id\tsource\ttext\na\t1\tone too three\na\t2\tfour\n")
    Path("said.csv").write_text("id,source,text\na,s1,one two three\na,s2,four\n")
    answer = usep("--metric", "wer", "--hypotheses", "heard.tsv", "--texts", "said.csv", "-o", "words")
    assert answer.code == 0
    (row,) = table("words/summary.csv")
    assert row["metric"] == "wer" and float(row["mean"]) == pytest.approx(25)  # one of four words
    assert "model" not in json.loads(Path("words/evaluate.json").read_text())
    assert usep("one.safetensors", "--metric", "wer", "--hypotheses", "heard.tsv", "--texts", "said.csv").code == 2
    answer = usep("--metric", "wer", "--hypotheses", "heard.tsv")
    assert answer.code == 2 and "needs what was said" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--protocol", "saijo2032"], "did you mean 'saijo2023'"),
        (["--protocol", "saijo2023", "--metric", "si-snri"], "leave --metric si-snri away"),
        (["--protocol", "saijo2023", "--estimates", ".", "--references", ".", "--mixtures", "."], "leave --mixtures"),
        (["--metric", "mom"], "did you mean 'momi'"),
        (["--metric", "momi", "--estimates", ".", "--references", "."], "needs a MODEL"),
        (["--metric", "momi", "--unprocessed"], "need a --metric per source"),
        (["--by", "labl"], "did you mean 'label'"),
        (["--by", "k"], "unknown column for --by 'k'"),
        (["--by", "label", "--estimates", ".", "--references", "."], "unknown column for --by 'label'"),
        (["--unprocessed", "--estimates", ".", "--references", ".", "--metric", "snr"], "give --mixtures"),
        (["--compare", "fuss_remix"], "did you mean 'fuss_remixit'"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(usep: Usep, arguments: list[str], said: str) -> None:
    answer = usep(*arguments)
    assert (answer.code, answer.out) == (2, "") and said in answer.err


def test_bounds_alone_need_no_model(usep: Usep) -> None:
    answer = usep("--bounds", "--oracle", "ibm", "--metric", "si-snri", "--limit", "2", "-o", "ibm")
    assert answer.code == 0 and "model" not in answer.err
    assert [row["system"] for row in table("ibm/summary.csv")] == ["oracle ibm 512/128", "unprocessed"]
    # As between a model of the same rate and the mixture: the same masks, on the same items.
    assert usep("one.safetensors", "--data", TESTSET, "--oracle", "ibm", "--limit", "2", "-o", "beside").code == 0
    assert table("ibm/summary.csv")[0] == table("beside/summary.csv")[0]
    # What can be asked of a model can be asked of them.
    words = ("--bounds", "--limit", "2", "--metric", "si-snri", "--versus", "ibm", "--stats", "--report", "-o", "irm")
    assert usep(*words).code == 0
    (row,) = table("irm/versus.csv")
    means = [float(table(f"{place}/summary.csv")[0]["mean"]) for place in ("irm", "ibm")]
    assert float(row["difference"]) == pytest.approx(means[0] - means[1], abs=1e-6)
    assert "Bounds of testset" in Path("irm/report.html").read_text()


def test_oracles_stand_alone_where_there_is_nothing_to_score(usep: Usep, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["oracle irm 512/128", "unprocessed"]
    folder, no_model = str(TESTSET), ("--oracle", "irm", "--limit", "1", "--metric", "si-snri")
    monkeypatch.setenv("USEP_RUNS", "nowhere")
    answer = usep(*no_model, "--data", folder, "-o", "a")
    assert answer.code == 0 and "no MODEL is named" in answer.err
    assert [row["system"] for row in table("a/summary.csv")] == wanted
    for row in (rows := Manifest.read(TESTSET)).rows[:1]:
        for k, source in enumerate((row.mixture, *row.sources)):
            place = Path("refs" if k else "mixes") / row.id / (f"s{k}.flac" if k else "mix.flac")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(rows.resolve(source), place)
    files = ("--references", "refs", "--mixtures", "mixes")
    assert usep(*no_model, *files, "-o", "b").code == 0
    assert table("b/summary.csv") == table("a/summary.csv")
    for words, said in (
        (("--bounds", "default"), "--bounds scores no model"),
        (("--bounds", "--estimates", "refs", "--references", "refs"), "--bounds scores no model"),
        (("--bounds", "--references", "refs"), "give --mixtures"),
        (("--bounds", "--mixtures", "mixes"), "--references DIR"),
        (("--bounds", "--metric", "momi"), "--metric momi needs a MODEL"),
        (("--bounds", "--kaldi-export", "k"), "--kaldi-export needs a MODEL"),
    ):
        answer = usep(*words, "-o", "c")
        assert answer.code == 2 and said in answer.err, words
