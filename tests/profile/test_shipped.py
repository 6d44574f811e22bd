"""Every profile that ships can be loaded and bound, fits together, and says which published numbers it is to reach."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from usepcli.engine import sweeps
from usepcli.profile import signature
from usepcli.profile.load import load_profile, profiles_available, render_config

pytestmark = pytest.mark.usefixtures("folders_of_users")
ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "profiles").rglob("*.y*ml"))
LEDGER = ROOT / "usepcli" / "published" / "published.csv"


COMMAND = re.compile(r"^#   usep ((?:.*\\\n#\s+)*.*)$", re.M)  # lines end in a backslash where they go on
SET = re.compile(r"--set ([\w.]+=[^\s,;)]+)")
MOMS = {  # sums of two mixtures in a step: the papers', and with _code those of the released settings
    **dict.fromkeys(("wsj0_2mix_mixit", "wsj0_2mix_moms", "wsj0_2mix_moms_l0", "libri2mix_mixit"), 256),
    **dict.fromkeys(("fuss_moms", "fuss_moms_l0", "fuss_moms_p0", "fuss_moms_p0_l0"), 256),
    **dict.fromkeys(("wsj0_mixit", "wsj0_mixit_sparse"), 16),
    **dict.fromkeys(("fuss_mixit", "fuss_mixit_sparse", "fuss_mixit_code", "fuss_mixit_sparse_code"), 16),
    "wsj0_mixit_code": 8,
}


def commands(path: Path) -> list[list[str]]:
    """Return the usep commands in the head of a profile, as words."""
    head = path.read_text(encoding="utf-8")
    return [shlex.split(found.replace("\\\n#", " ")) for found in COMMAND.findall(head)]


def published() -> dict[str, list[dict[str, str]]]:
    """Return the rows of the ledger by profile."""
    found: dict[str, list[dict[str, str]]] = {}
    with open(LEDGER, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["profile"] and not row["set"]:
                found.setdefault(row["profile"], []).append(row)
    return found


def test_profiles_ship_and_are_found_by_name():
    assert FILES
    assert {path.stem for path in FILES} <= {name for name, _, _ in profiles_available({})}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_profile_binds_and_says_what_it_is(path: Path):
    profile = load_profile(str(path), environ={})
    assert 10 < len(profile.about) <= 100 and "\n" not in profile.about
    assert render_config(profile).count("\n") > 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_model_objective_and_batch_fit_together(path: Path):
    import torch

    from usepcli.engine.training import parts
    from usepcli.weights import build

    profile = load_profile(str(path), environ={})
    with torch.device("meta"):  # shapes alone: the largest models cost nothing
        model = build.model(profile.model)
        objective = parts.objective(profile, model)
    assert profile.train.batch_size % profile.train.accumulate == 0
    objective.check(profile.train.batch_size // profile.train.accumulate)


@pytest.mark.parametrize("name", sorted(published()))
def test_header_tells_the_published_numbers_and_where_they_stand(name: str):
    path = ROOT / "profiles" / f"{name}.yaml"
    comment = " ".join(line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#"))
    assert f"--compare {name}" in comment
    for row in published()[name]:
        assert f"({row['paper']}, {row['where'].lower()})" in comment
        assert f" {row['value']}" in comment, row


def fits(name: str, sets: list[str]) -> Any:
    """Bind a profile with settings and build what belongs together, without memory for the model."""
    import torch

    from usepcli.engine.training import parts
    from usepcli.objectives.supervised import Place
    from usepcli.weights import build

    profile = load_profile(name, sets, environ={})
    with torch.device("meta"):
        objective = parts.objective(profile, build.model(profile.model))
    share = profile.train.accumulate
    objective.place = Place(parts=share)
    assert profile.train.batch_size % share == 0
    objective.check(profile.train.batch_size // share)
    return profile, objective


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_command_in_a_head_is_one_that_usep_takes(path: Path):
    from usepcli.cli.app import command

    told = commands(path)
    assert ["train", "--profile", path.stem] in [words[:3] for words in told] or path.stem in ("small_mixtures",)
    for name, *words in told:
        found = command(name).make_context(name, list(words)).params  # every option known, every value of its kind
        if name == "train":
            fits(found["profile"], found["sets"])
        if name == "evaluate":
            assert found["compare"] in {"", *(file.stem for file in FILES)}
        if name == "prepare-data":
            known = set(signature.schema("corpus", found["corpus"]).model_fields)
            assert {key for key in found if found[key] is not None} & {"rate", "train", "valid", "test"} <= known


LETTERS = {"STFT": "stft", "wave": "wave", "mask": "mask"}


def critics_of(row: dict[str, str]) -> tuple[list[str], bool]:
    """Return the critics that a row of the adversarial ledger names in the paper's words, and whether PIT is there."""
    words = row["system"].removeprefix("adversarial PIT, ").split(" + ")
    count = re.search(r"I=(\d)", row["condition"])
    blind = "_blind" if "not m-conditioned" in row["condition"] else ""
    kinds = [word.split() for word in words if word != "PIT"]
    named = [
        f"inst_{LETTERS[where]}" if kind == "instance" else f"ctx_{LETTERS[where]}_{count[1]}{blind}"
        for kind, where in kinds
        if kind == "instance" or count
    ]
    return named, "PIT" in words


def test_every_row_of_adversarial_pit_is_a_profile_or_one_set_away():
    with open(LEDGER, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["profile"] == "fuss_advpit"]
    assert {row["where"] for row in rows} == {"Table 2", "Table 3"}
    tried = {(row["system"], row["condition"]): row for row in rows}
    assert len(tried) == 24 + 12
    for row in tried.values():
        _, objective = fits("fuss_advpit", re.findall(r"\S+=(?:\[.*?\]|\S+)", row["set"]))
        named, pit = critics_of(row)
        assert list(objective.sights) == named and (objective.pit != "off") == pit, row
        assert all(
            sight.mixture or sight.kind == "inst" or name.endswith("_blind") for name, sight in objective.sights.items()
        )


@pytest.mark.parametrize(
    ("sets", "kinds"),
    [
        (["objective.critics=[ctx_stft_0]", "loss.name=spectral_mse"], [("ctx", "stft", True)]),
        (["objective.critics=[ctx_stft_0_blind]", "loss.name=spectral_mse"], [("ctx", "stft", False)]),
        (["objective.critics=[inst_stft]", "loss.name=spectral_mse"], [("inst", "stft", False)]),
        (["objective.critics=[ctx_wave_0_blind]"], [("ctx", "wave", False)]),
        (["objective.critics=[metric_wave]"], [("metric", "wave", False)]),
    ],
    ids=["CBLDNN and SSGAN-PIT (i)", "SSGAN-PIT (ii)", "SSGAN-PIT (iii)", "Furcax", "Conv-TasSAN"],
)
def test_earlier_adversarial_separators_are_one_set_away(sets: list[str], kinds: list[tuple[str, str, bool]]):
    _, objective = fits("fuss_advpit", [*sets, "objective.gan=least_squares", "model.n_src=2"])
    assert [(s.kind, s.domain, s.mixture) for s in objective.sights.values()] == kinds
    assert all(sight.replaced == 0 for sight in objective.sights.values())


def lectured() -> list[tuple[str, str]]:
    """Return every profile with settings that the tables of the classics name."""
    with open(LEDGER, encoding="utf-8", newline="") as file:
        return sorted({(row["profile"], row["set"]) for row in csv.DictReader(file) if row["paper"] == "An (lecture)"})


@pytest.mark.parametrize(("name", "sets"), [row for row in lectured() if row[1]], ids=str)
def test_every_row_of_the_classics_that_is_a_set_away_is_what_its_settings_say(name: str, sets: str):
    profile, objective = fits(name, sets.split())
    assert objective.n_src == 2
    found = {"model": objective.student, "loss": objective.loss, "objective": objective}
    for section, key, value in (re.split("[.=]", one, maxsplit=2) for one in sets.split()):
        if key == "preset":
            assert objective.student.causal == (value == "causal")
        elif section in found:
            assert getattr(found[section], key) == value
        else:
            assert profile.optim.lr == float(value)


SWEEPS = sorted((ROOT / "benchmarks" / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_run_of_a_sweep_binds(path: Path):
    found = sweeps.from_file(path)
    assert f"--sweep benchmarks/sweeps/{path.name} -o runs/{path.stem} --shard 1/{len(found.runs)}" in path.read_text()
    for run in found.runs:
        fits(found.profile, run.sets)


def test_the_sweeps_of_adversarial_pit_are_the_rows_of_its_tables():
    with open(LEDGER, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["profile"] == "fuss_advpit" and row["metric"] == "SI-SNR_I"]
    for table in ("Table 2", "Table 3"):
        mine = [row for row in rows if row["where"] == table]
        runs = sweeps.from_file(SWEEPS[0].parent / f"advpit_{table.lower().replace(' ', '')}.yaml").runs
        asked = [(run.settings["objective.critics"], run.settings["objective.pit"] != "off") for run in runs]
        told = [(f"[{', '.join(named)}]", pit) for named, pit in map(critics_of, mine)]
        assert asked == told + ([("[]", True)] if table == "Table 3" else [])


SETS = [path for path in FILES if SET.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_every_setting_that_a_head_proposes_fits(path: Path):
    comment = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    for line in comment.replace("\n# ", " ").split("`"):
        sets = [found.rstrip(".") for found in SET.findall(line)]
        if sets and "..." not in line:
            fits(path.stem, sets)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.3, 0.99])
@pytest.mark.parametrize("name", ["fuss_moms", "wsj0_2mix_moms"])
def test_any_share_of_references_fits_however_small_the_micro_batches(name: str, share: float):
    fits(name, [f"objective.supervised_fraction={share}"])


def test_sums_of_mixtures_in_a_step_are_those_of_the_papers():
    found = {}
    for path in FILES:
        profile = load_profile(str(path), environ={})
        if profile.objective["name"] == "mixit" and not path.stem.startswith("small"):
            found[path.stem] = profile.train.batch_size // profile.objective.get("n_mix", 2)
    assert found == MOMS


FIRST_STAGE = re.compile(r"(?:init_from|teacher_model): (runs/(\w+))")
SECOND = [path for path in FILES if FIRST_STAGE.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", SECOND, ids=lambda path: path.stem)
def test_second_stages_say_how_to_train_the_first(path: Path):
    text = path.read_text(encoding="utf-8")
    found = FIRST_STAGE.search(text)
    assert found
    folder, name = found.groups()
    lines = re.findall(r"^#   usep train --profile (\w+)(.*)$", text, re.M)
    assert len(lines) == 2 and lines[1][0] == path.stem
    assert lines[0][0] in {file.stem for file in FILES}
    assert f"-o {folder}" in lines[0][1] if lines[0][0] != name else "-o" not in lines[0][1]
