"""The tables of separation by words: every published row is a profile, one setting away, or said to be left."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from usepcli.engine import sweeps
from usepcli.profile import signature
from usepcli.profile.load import load_profile

pytestmark = pytest.mark.usefixtures("folders_of_users")
ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "usepcli" / "published" / "published.csv"
SWEEPS = sorted((ROOT / "benchmarks" / "sweeps").glob("words_table*.yaml"))
WORDS = "Mahmud et al. 2024"
COUNTS = {"no": 0, "one": 1, "two": 2}
BEST = {"music": (0.1, 5.0, 10.0), "vggsound": (0.2, 2.0, 10.0), "audiocaps": (0.2, 1.0, 10.0)}  # cnt, crl, url
CONDITIONERS = {"CLAPSep": "clap", "CLIPSep-Text": "vectors", "CLIPSep-Img": "vectors", "BertSep": "sentence"}
# Networks of images and of FiLM.
LEFT = ("SOP", "CoSep", "LASS-Net")
UNASKED = {"PIT": "pit", "MixIT": "mixit", "MixPIT": "mixpit"}


def ledger() -> list[dict[str, str]]:
    with open(LEDGER, encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["paper"] == WORDS]


def told_of(row: dict[str, str]) -> dict[str, Any]:
    """Return the settings that a row of the paper's tables tells in its words."""
    where, system, condition = row["where"], row["system"], row["condition"]
    data = row["profile"].split("_")[0]
    told: dict[str, Any] = {"objective.name": "text_weak"}
    if trained := re.search(r"trained on (single-source|(\d)-source)", condition):
        told["data.manifest"] = f"data/{data}" + (f"_{trained[2]}" if trained[2] in ("3", "4") else "")
        if trained[1] == "single-source":
            told["objective.name"] = "mix_and_separate"
    told |= dict(zip(("objective.cnt", "objective.crl", "objective.url"), BEST[data], strict=True))
    if net := re.fullmatch(r"U-Net, ResBlock (\w+), self-attention (\w+), cross-attention (\w+)", system):
        counts = [COUNTS[word] for word in net.groups()]
        told |= dict(zip(("model.res_convs", "model.sa_blocks", "model.ca_blocks"), counts, strict=True))
    if " losses " in system:
        mine = system.split(" losses ")[1].split(" + ")
        told |= {f"objective.{name.lower()}": 0.0 for name in ("URL", "CRL", "CNT") if name not in mine}
    if weights := re.fullmatch(r"alpha ([\d.]+), beta ([\d.]+), gamma ([\d.]+)", condition):
        told |= dict(
            zip(("objective.cnt", "objective.crl", "objective.url"), map(float, weights.groups()), strict=True)
        )
    if weights := re.fullmatch(r"lambda_s ([\d.]+), lambda_u ([\d.]+)", condition):
        kinds = ("objective.supervised_weight", "objective.weak_weight")
        told |= dict(zip(kinds, map(float, weights.groups()), strict=True))
    if where == "Table 12" and system == "semi-supervised":
        told["objective.supervised"] = int(condition.split()[1]) / 100
    if (method := system.removesuffix(" (improved U-Net)")) in CONDITIONERS:
        told["model.conditioner"] = CONDITIONERS[method]
        blocks = int(method != system)
        told |= dict.fromkeys(("model.res_convs", "model.sa_blocks", "model.ca_blocks"), blocks)
        if told["objective.name"] == "text_weak":
            told |= {"objective.cnt": 0.0, "objective.crl": 0.0}
    if method in UNASKED:
        three = method != "MixIT" and row["data"] == "MUSIC 3-source test"
        outputs = 2 * int(trained[2]) if method == "MixIT" and trained else 3 if three else 2
        told |= {"objective.name": UNASKED[method], "model.name": "uncond_unet", "model.n_src": outputs}
        told["data.manifest"] = "data/music_3" if method == "PIT" and three else told["data.manifest"]
    if method == "Weak-Sup":
        told["objective.name"] = "weak_sup"
    if "with CLAP constraint" in condition and "without" not in condition:
        told["objective.name"] = "text_supervised"
    if system.startswith("semi-supervised"):
        told["objective.name"] = "text_semi"
    if system == "supervised":
        told["objective.name"] = "mix_and_separate"
    weighed = told["objective.name"] in ("text_weak", "text_semi")
    return {key: value for key, value in told.items() if weighed or key.split(".")[-1] not in ("cnt", "crl", "url")}


def settings_of(profile: str, sets: str) -> dict[str, Any]:
    """Return the settings of a profile, those of its parts with what the parts do by default."""
    found = load_profile(profile, re.findall(r"\S+=\S+", sets), environ={}).as_dict()
    for kind in ("model", "loss", "objective"):
        part = found[kind]
        known = signature.signature(kind, part["name"])
        usual = {one.name: one.default for one in known.parameters.values()}
        found[kind] = usual | (known.presets or {}).get(part.get("preset", ""), {}) | part
    return found


def test_every_row_is_a_profile_or_one_set_away_or_said_to_be_left() -> None:
    built: dict[str, dict[str, Any]] = {}
    for row in ledger():
        if not row["profile"]:
            assert row["metric"] != "sdr" or left(row), row
            continue
        found = settings_of(row["profile"], row["set"])
        for key, value in told_of(row).items():
            section, name = key.split(".")
            assert found[section][name] == value, (key, row)
        built.setdefault(str([found[part] for part in ("model", "loss", "objective")]), row)
    assert len(built) > 30
    for row in built.values():
        build(row["profile"], row["set"])


def build(profile: str, sets: str) -> None:
    """Make the parts of a training, without memory for the model."""
    import torch

    from usepcli.engine.training import parts
    from usepcli.weights import build

    found = load_profile(profile, re.findall(r"\S+=\S+", sets), environ={})
    with torch.device("meta"):
        objective = parts.objective(found, build.model(found.model))
    objective.check(found.train.batch_size // found.train.accumulate)


def left(row: dict[str, str]) -> bool:
    """Whether a row stays one of the ledger: other networks, a part of the solos, or what is trained elsewhere."""
    share = row["where"] == "Table 12" and row["system"] in ("supervised", "unsupervised")
    return share or row["where"] in ("Table 13a", "Table 13b") or row["system"].split()[0] in LEFT


def test_what_is_left_is_said_in_a_head() -> None:
    head = (ROOT / "profiles" / "music_url.yaml").read_text() + (
        ROOT / "profiles" / "music_supervised.yaml"
    ).read_text()
    assert "SOP, CoSep and LASS-Net stay rows of the ledger" in head and "alone stay rows of the ledger" in head


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_is_the_rows_of_its_table(path: Path) -> None:
    named = re.fullmatch(r"words_table(\d+\w?)(_single)?", path.stem)
    assert named
    found = sweeps.from_file(path)
    mine = [row for row in ledger() if row["where"] == f"Table {named[1]}" and row["metric"] == "sdr"]
    if named[1] == "5":
        mine = [row for row in mine if ("single" in row["condition"]) == bool(named[2])]
    if named[1] == "12":
        mine = [row for row in mine if row["system"] == "semi-supervised"]
    asked = [settings_of(found.profile, " ".join(run.sets)) for run in found.runs]
    told = [settings_of(row["profile"], row["set"]) for row in mine]
    parts = ("data", "model", "loss", "objective", "optim", "schedule", "train")
    mine_first, theirs = (sorted(plain([one[part] for part in parts]) for one in of) for of in (told, asked))
    assert mine_first == theirs


def plain(value: Any) -> str:
    """Return settings as text in which 5 and 5.0 are the same, and no key stands before another by chance."""
    return json.dumps(value, sort_keys=True, default=str).replace(".0,", ",").replace(".0}", "}")
