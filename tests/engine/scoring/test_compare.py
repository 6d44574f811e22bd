"""The ledger of published numbers, and when an evaluation may stand beside it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from usepcli.engine.scoring import compare
from usepcli.engine.scoring.protocols import OWN, PROTOCOLS
from usepcli.errors import BadInput, UsageError

W, S, A = "Wisdom et al. 2020", "Saijo & Ogawa 2023", "Postolache et al. 2023"
M, L = "Mahmud et al. 2024", "An (lecture)"
# Cells with a number, counted in the papers' tables.
CELLS = {
    (W, "Table 3"): 5, (W, "Table 4"): 2 + 4 * 2, (W, "Table 5"): 8 * 6, (W, "Appendix C"): 1, (W, "Appendix F"): 3 * 2,
    (W, "Appendix G"): 2 * 2,
    (S, "Table 1"): 10 * 4, (S, "Table 2"): 12 * 6, (S, "Section 2.3"): 1,
    (A, "Table 2"): 8 * 3 * 2, (A, "Table 3"): 16 * 2,
    (M, "Table 5"): 10 * 5, (M, "Table 6"): 5 * 3, (M, "Table 7a"): 5, (M, "Table 7b"): 5, (M, "Table 7c"): 5,
    (M, "Table 7d"): 5, (M, "Table 8"): 8 * 3 + 4 * 2 + 1, (M, "Table 9"): 9, (M, "Table 10"): 9 * 4 + 4 * 3 + 1,
    (M, "Table 11"): 4 * 4, (M, "Table 12"): 5 * 3 + 2, (M, "Table 13a"): 9, (M, "Table 13b"): 4,
    (M, "Table 14"): 4 * 4,
    (L, "uPIT table"): 22 * 4, (L, "TasNet table"): 6 + 2, (L, "Conv-TasNet table"): 13 + 12 + 14,
    (L, "SepFormer table"): 13 + 12 + 13 + 13,
}  # fmt: skip


def test_ledger_has_every_cell_of_every_table_once():
    rows = compare.ledger()
    assert Counter((row["paper"], row["where"]) for row in rows) == CELLS
    keys = [tuple(row[key] for key in ("paper", "where", "system", "data", "condition", "metric")) for row in rows]
    assert len(set(keys)) == len(keys)


def test_ledger_cells_are_numbers_with_units():
    for row in compare.ledger():
        assert re.fullmatch(r"-?\d+(\.\d+)?", row["value"]) and re.fullmatch(r"(\d\.\d+)?", row["plus_minus"]), row
        assert row["unit"] in {"dB", "%", "1", "MOS", "M", "samples"} and row["system"], row
        assert row["protocol"] in {"", OWN, "bss-eval", "kaldi", "listening", *PROTOCOLS}, row


def value(paper: str, where: str, system: str, metric: str, data: str = "", condition: str = "") -> list[float]:
    """Return the values that fit, in the order of the ledger."""
    return [
        float(row["value"])
        for row in compare.ledger()
        if (row["paper"], row["where"], row["system"], row["metric"]) == (paper, where, system, metric)
        and data in row["data"]
        and condition in row["condition"]
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (value(W, "Table 3", "MixIT", "si-snri"), [13.1, 13.8, 13.7, 13.6, 13.7]),
        (value(W, "Table 4", "PIT on MoMs", "SS", "", "p0 0.2"), [29.5, 34.7]),
        (value(W, "Table 5", "PIT", "si-snri", "WSJ0-2mix 16 kHz", "trained reverberant, M=4, d"), [13.2, 10.6]),
        (value(W, "Table 5", "PIT", "si-snri", "Libri2Mix 16 kHz test", "M=2, dynamic"), [16.0, 13.7]),
        (value(S, "Table 1", "Self-Remixing, unconstrained shuffle", "wer"), [39.7]),
        (value(S, "Table 1", "RemixIT w/o CS", "pesq"), [2.84]),
        (value(S, "Table 1", "Unprocessed", "si-snr"), [-0.4]),
        (value(S, "Table 2", "RemixIT", "4Si"), [8.2, 0.1]),
        (value(S, "Table 2", "Sup. Self-Remixing", "TRF"), [19.4, 23.0]),
        (value(A, "Table 2", "adversarial PIT, context mask", "SI-SNR_I", "", "I=1"), [9.3, 6.7]),
        (value(A, "Table 3", "DCASE PIT baseline", "SI-SNR_S"), [37.5]),
        (value(M, "Table 10", "Proposed", "sdr"), [3.5, 2.7, 2.2]),
        (value(M, "Table 12", "semi-supervised", "sdr", "", "75 %, 2"), [9.5]),
        (value(L, "uPIT table", "uPIT-BLSTM, PSM, ReLU", "sdri"), [10.9, 10.8, 9.4, 9.4]),
        (value(L, "Conv-TasNet table", "Conv-TasNet-gLN", "parameters"), [5.1]),
        (value(L, "SepFormer table", "SepFormer + DM", "sdri"), [22.4]),
    ],
)
def test_ledger_values(found: list[float], expected: list[float]):
    assert found == expected


def test_total_reconstruction_lies_between_one_source_and_more():
    """TRF is a weighted mean of 1S and MSi with the test set's share of single sources, in every row of the table."""
    table: dict[tuple[str, str], dict[str, float]] = {}
    for row in compare.ledger():
        if (row["paper"], row["where"]) == (S, "Table 2"):
            table.setdefault((row["system"], row["condition"]), {})[row["metric"]] = float(row["value"])
    assert len(table) == 12
    spread = [row for row in table.values() if abs(row["1S"] - row["MSi"]) > 10]
    shares = [(row["TRF"] - row["MSi"]) / (row["1S"] - row["MSi"]) for row in spread]
    assert len(shares) == 8 and all(0.25 < share < 0.28 for share in shares)


# Comparisons


def record_of(folder: Path, corpus: str, split: str = "test", **changes: Any) -> dict[str, Any]:
    """Write a prepare.json into the folder and return what evaluate.json would hold."""
    settings = changes.pop("made_with", {})
    (folder / "prepare.json").write_text(json.dumps({"corpus": corpus, "settings": settings}))
    manifest = str(folder / "manifest.csv")
    record = {
        "data": {"manifest": manifest, "split": split, "sample_rate": changes.pop("rate", 8000)},
        "settings": {"limit": 0},
        "items": 3000,
        "protocol": {},
        "summary": [],
    }
    return record | changes


def scored(metric: str, mean: float | None, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "mean": mean, "ci95_low": mean and mean - 1, "ci95_high": mean and mean + 1, **more}


WSJ0 = {"n_src": 2, "mix": "mix", "rate": 8000, "length": "min"}


def test_ours_stands_beside_the_published_number(tmp_path: Path):
    record = record_of(tmp_path, "wsj0-mix", made_with=WSJ0, summary=[scored("si-snri", 15.5), scored("sdri", 16.0)])
    (row,) = compare.compare(record, "wsj0_2mix_pit")
    assert tuple(row) == compare.COLUMNS
    assert (row["metric"], row["ours"], row["published"], row["unit"]) == ("si-snri", 15.5, 16.7, "dB")
    assert row["difference"] == pytest.approx(-1.2) and (row["ci95_low"], row["ci95_high"]) == (14.5, 16.5)
    assert row["where"] == f"{W}, Table 5" and row["condition"] == "trained anechoic, M=2, fixed mixtures"
    assert "here it is min" in row["note"]


def test_closed_and_open_condition_are_the_two_splits_and_sizes_are_no_scores(tmp_path: Path):
    facts = {"made_with": WSJ0, "summary": [scored("sdri", 9.0), scored("si-snri", 8.6)]}
    (row,) = compare.compare(record_of(tmp_path, "wsj0-mix", **facts), "wsj0_2mix_upit")
    assert row["published"] == 9.4 and row["condition"] == "default assignment, open condition"
    (row,) = compare.compare(record_of(tmp_path, "wsj0-mix", "valid", items=5000, **facts), "wsj0_2mix_upit")
    assert row["published"] == 9.4 and row["condition"] == "default assignment, closed condition"
    facts["protocol"] = {"assign": "frame"}
    (row,) = compare.compare(record_of(tmp_path, "wsj0-mix", **facts), "wsj0_2mix_upit")
    assert row["published"] == 10.8 and row["condition"] == "optimal assignment, open condition"
    facts["protocol"] = {}
    rows = compare.compare(record_of(tmp_path, "wsj0-mix", **facts), "wsj0_2mix_sepformer_dm")
    assert [(row["metric"], row["published"]) for row in rows] == [("si-snri", 22.3), ("sdri", 22.4)]


def test_mixtures_made_anew_are_marked_and_what_was_not_scored_is_nan(tmp_path: Path):
    summary = [
        scored("si-snr", 9.0), scored("stoi", None), scored("wer", 20.0), scored("si-snr", -0.5, system="unprocessed"),
    ]  # fmt: skip
    record = record_of(tmp_path, "wsj-mix", made_with={"noise": "street"}, items=200, summary=summary)
    rows = compare.compare(record, "wsj0_remixit")
    assert [(row["system"], row["metric"]) for row in rows] == [
        ("RemixIT", "si-snr"), ("RemixIT", "stoi"), ("RemixIT", "pesq"), ("RemixIT", "wer"), ("Unprocessed", "si-snr"),
    ]  # fmt: skip
    assert all("regenerated" in row["note"] and "200 here, 1332 there" in row["note"] for row in rows)
    assert rows[0]["difference"] == pytest.approx(-1.3) and rows[4]["difference"] == pytest.approx(-0.1)
    assert all(math.isnan(row["ours"]) for row in rows[1:4])
    assert "not scored" in rows[2]["note"]
    assert "published by kaldi" in rows[3]["note"], "words of another recogniser are no comparison"


def test_assignment_condition_and_filters_are_keys(tmp_path: Path):
    facts = {"made_with": WSJ0, "summary": [scored("sdri", 9.0), scored("si-snri", 8.6)]}
    (row,) = compare.compare(record_of(tmp_path, "wsj0-mix", **facts, protocol={"assign": "frame"}), "wsj0_2mix_upit")
    assert row["published"] == 10.8 and row["condition"] == "optimal assignment, open condition"
    record = record_of(tmp_path, "wsj0-mix", **facts)
    assert compare.compare(record, "wsj0_2mix_upit", ["open"])[0]["published"] == 9.4
    with pytest.raises(UsageError, match="nothing that was published passes --only closed"):
        compare.compare(record, "wsj0_2mix_upit", ["closed"])
    record["data"]["conditions"] = ["closed"]  # as the items themselves tell
    with pytest.raises(UsageError, match="another condition than closed"):
        compare.compare(record, "wsj0_2mix_upit")
    frame = record_of(tmp_path, "wsj0-mix", **facts, protocol={"assign": "frame"})
    with pytest.raises(UsageError, match="published with --assign default, this was scored with frame"):
        compare.compare(frame, "wsj0_2mix_convtasnet")


def test_points_of_a_figure_are_of_the_same_data_and_protocol(tmp_path: Path):
    record = record_of(tmp_path, "wsj0-mix", made_with=WSJ0)
    every, small = compare.points(record), compare.points(record, ["parameters<3"])
    assert {one.data for one in every} == {"WSJ0-2mix 8 kHz test"} and len(every) > 20
    assert sorted(one.name for one in small) == ["DPTNet", "DualPathRNN", "sudo rm -rf"]
    assert compare.points(record_of(tmp_path, "speakers")) == []


def test_a_protocols_scores(tmp_path: Path):
    summary = [scored(name, number) for number, name in enumerate(("1S", "2Si", "3Si", "4Si", "MSi", "TRF"), 10)]
    facts = {"made_with": {"variant": "dry"}, "rate": 16000, "items": 1000, "protocol": {"name": "saijo2023"}}
    rows = compare.compare(record_of(tmp_path, "fuss", summary=summary, **facts), "fuss_self_remixing")
    assert [row["published"] for row in rows] == [29.4, 14.7, 16.2, 13.6, 14.8, 18.7]
    assert [row["ours"] for row in rows] == [10, 11, 12, 13, 14, 15]
    assert all("best validation MSi" in row["condition"] for row in rows)


def fuss(**changes: Any) -> dict[str, Any]:
    facts = {"made_with": {"variant": "dry"}, "rate": 16000, "items": 1000, "protocol": {"name": "saijo2023"}}
    return {"corpus": "fuss", "summary": [scored("MSi", 14.0)], **facts, **changes}


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"corpus": "folder"}, BadInput, "corpus fuss was expected, this is folder"),
        ({"split": "valid"}, BadInput, "split test was expected, this is valid"),
        ({"rate": 8000}, BadInput, "16000 Hz were expected, this was scored at 8000 Hz"),
        ({"made_with": {"variant": "reverb"}}, BadInput, "variant dry was expected, prepare-data had reverb"),
        ({"items": 999}, BadInput, "1000 items were expected, 999 were scored"),
        ({"settings": {"limit": 1000}}, BadInput, "1000 items were expected"),
        ({"protocol": {"name": "advpit2023"}}, UsageError, "score with --protocol saijo2023"),
        ({"protocol": {}}, UsageError, "score with --protocol saijo2023"),
        ({"summary": [scored("si-snr", 3.0)]}, UsageError, "nothing that was published"),
        ({"data": None}, UsageError, "prepared --data"),
    ],
)
def test_other_data_or_protocols_are_refused(tmp_path: Path, changes: dict[str, Any], kind: type, said: str):
    with pytest.raises(kind, match=said) as caught:
        compare.compare(record_of(tmp_path, **fuss(**changes)), "fuss_remixit")
    assert "\n" not in str(caught.value)


def test_plain_scores_are_asked_for_where_a_protocol_was_named(tmp_path: Path):
    record = record_of(tmp_path, "wsj0-mix", made_with=WSJ0, protocol={"name": "saijo2023"})
    with pytest.raises(UsageError, match="leave --protocol away"):
        compare.compare(record, "wsj0_2mix_pit")


def test_noisy_test_set_made_without_noise_is_refused(tmp_path: Path):
    record = record_of(tmp_path, "wsj-mix", made_with={"noise": ""}, summary=[scored("si-snr", 9.0)])
    with pytest.raises(BadInput, match="made without noise"):
        compare.compare(record, "wsj0_remixit")


def test_a_folder_that_does_not_say_what_it_holds_is_refused(tmp_path: Path):
    record = record_of(tmp_path, "fuss")
    (tmp_path / "prepare.json").unlink()
    with pytest.raises(BadInput, match=r"prepare\.json: no such file"):
        compare.compare(record, "fuss_remixit")
    (tmp_path / "prepare.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        compare.compare(record, "fuss_remixit")


def test_profile_without_published_numbers_is_named_with_its_nearest(tmp_path: Path):
    with pytest.raises(UsageError, match="did you mean 'wsj0_remixit'"):
        compare.compare(record_of(tmp_path, "wsj-mix"), "wsj0_remixt")


def test_every_test_set_that_can_be_made_is_in_the_ledger():
    assert set(compare.SETS) <= {row["data"] for row in compare.ledger()}
    with_profile = {row["data"] for row in compare.ledger() if row["profile"]}
    assert {data for data in with_profile if "reverberant" not in data} <= set(compare.SETS)


def words(folder: Path, corpus: str, **changes: Any) -> dict[str, Any]:
    facts = {"made_with": {"sources": [2, 2]}, "rate": 11025, "items": 70, "summary": [scored("sdr", 5.0)]}
    return record_of(folder, corpus, **{**facts, **changes})


def test_bss_eval_is_what_sdr_is_and_two_sources_are_no_three(tmp_path: Path):
    rows = compare.compare(words(tmp_path, "music"), "music_weak")
    assert [row["published"] for row in rows] == [7.9] * 5 and rows[0]["difference"] == pytest.approx(-2.9)
    assert "70 here; the paper does not tell how many" in rows[0]["note"]
    (row,) = compare.compare(words(tmp_path, "music", made_with={"sources": [3, 3]}), "music_weak")
    assert row["published"] == 3.5 and row["where"] == f"{M}, Table 10"
    with pytest.raises(UsageError, match=r"score again with --metric sdr$"):
        compare.compare(words(tmp_path, "music", summary=[scored("si-snr", 1.0)]), "music_weak")
    with pytest.raises(UsageError, match="leave --protocol away"):
        compare.compare(words(tmp_path, "music", protocol={"name": "saijo2023"}), "music_weak")
    with pytest.raises(BadInput, match=r"sources \[2, 2\] was expected, prepare-data had \[2, 4\]"):
        compare.compare(words(tmp_path, "music", made_with={"sources": [2, 4]}), "music_weak")


def test_sums_of_captioned_clips_are_those_of_their_corpus(tmp_path: Path):
    source, sums = tmp_path / "source", tmp_path / "sums"
    source.mkdir()
    sums.mkdir()
    (source / "prepare.json").write_text('{"corpus": "audiocaps"}')
    record = words(sums, "mom", made_with={"seeds": "0"})
    made = json.loads((sums / "prepare.json").read_text())
    (sums / "prepare.json").write_text(json.dumps({**made, "source": str(source)}))
    assert [row["published"] for row in compare.compare(record, "audiocaps_weak")] == [2.9, 2.9]
    (source / "prepare.json").write_text('{"corpus": "labelled"}')
    with pytest.raises(BadInput, match="sums of corpus audiocaps were expected, these are of labelled"):
        compare.compare(record, "audiocaps_weak")
