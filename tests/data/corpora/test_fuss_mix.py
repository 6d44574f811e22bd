from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.fuss_mix import FussMix
from usepcli.errors import BadInput, ConfigError, InputNotFound


def touch(root: Path, *names: str, seconds: float = 1.0) -> None:
    for name in names:
        io.write(root / name, np.full(round(1000 * seconds), 0.1), 1000)


def test_the_lengths_of_fuss_are_the_defaults(tmp_path: Path):
    touch(tmp_path, *(f"{split}/sound/{n}.wav" for split in ("train", "validation", "eval") for n in range(3)))
    touch(tmp_path, *(f"{split}/sound/long.wav" for split in ("train", "validation", "eval")), seconds=10.5)
    corpus = FussMix()
    rows = corpus.scan(tmp_path)
    planner = corpus.planner("train", rows[:3], corpus.scan_noise(tmp_path)[1][:1], 0)
    plans = [planner.plan(i) for i in range(40)]
    assert {plan.frames for plan in plans} == {160_000} and {len(plan.turns) for plan in plans} == {1, 2, 3, 4}
    assert corpus.rate == 16_000 and all(turn.query == "" for plan in plans for turn in plan.turns)
    assert {plan.label for plan in plans if len(plan.turns) == 2} == {"background;foreground"}


def test_classes_are_asked_for_and_a_column_comes_first(tmp_path: Path):
    touch(tmp_path, "dog_bark/1.wav", "rain/1.wav", "cat/1.wav")
    (tmp_path / "manifest.csv").write_text(
        "path,label,role,query\ndog_bark/1.wav,dog_bark,foreground,\nrain/1.wav,,background,\n"
        "cat/1.wav,cat,,a cat; meows\n"
    )
    corpus = FussMix()
    assert [row.query for row in corpus.scan(tmp_path)] == ["dog bark", "a cat, meows"]
    assert [row.query for row in corpus.scan_noise(tmp_path)[1]] == ["background"]


@pytest.mark.parametrize(("source", "behind"), [("fg", "bg"), (".", "bg"), ("fg", ".")])
def test_a_folder_of_backgrounds_holds_all_of_them(tmp_path: Path, source: str, behind: str):
    touch(tmp_path, "fg/dog/1.wav", "fg/cat/1.wav", "bg/street/1.wav")
    touch(tmp_path, "fg/bell/long.wav", "bg/forest/1.wav", seconds=12)
    corpus = FussMix(backgrounds=str(tmp_path / behind))
    rows = corpus.scan(tmp_path / source)
    root, backgrounds = corpus.scan_noise(tmp_path / source)
    assert {(tmp_path / source / row.path).parent.name for row in rows} == {"dog", "cat", "bell"}
    assert {(root / row.path).parent.name for row in backgrounds} == {"street", "forest"}
    assert corpus.remarks() == []


def test_room_responses_among_the_recordings_are_none_of_them(tmp_path: Path):
    touch(tmp_path, "dog/1.wav", "rooms/hall/1.wav")
    corpus = FussMix(rirs=str(tmp_path / "rooms"), valid=0, test=0)
    assert [row.path for row in corpus.scan(tmp_path)] == ["dog/1.wav"]
    assert [row.path for row in corpus.scan_rooms()[1]] == ["hall/1.wav"]


def test_backgrounds_that_a_list_names_beside_a_folder_of_them(tmp_path: Path):
    touch(tmp_path, "a/1.wav", "a/2.wav", "b/1.wav")
    (tmp_path / "a/manifest.csv").write_text("path,role\n1.wav,foreground\n2.wav,background\n")
    corpus = FussMix(backgrounds=str(tmp_path / "b"))
    assert [row.path for row in corpus.scan(tmp_path / "a")] == ["1.wav"]
    assert [row.path for row in corpus.scan_noise(tmp_path / "a")[1]] == ["1.wav"]
    assert "1 recordings that the list calls backgrounds" in corpus.remarks()[0]


def test_faults(tmp_path: Path):
    touch(tmp_path, "fg/dog/1.wav")
    with pytest.raises(InputNotFound, match="nowhere"):
        FussMix(backgrounds=str(tmp_path / "nowhere")).scan(tmp_path)
    with pytest.raises(BadInput, match=r"no recording but those of another folder"):
        FussMix(backgrounds=str(tmp_path)).scan(tmp_path)
    for lufs in (1.0, -61.0, float("nan")):  # -61 with foregrounds 5 LU below it
        with pytest.raises(ConfigError, match=r"--background-lufs .*FUSS: -55"):
            FussMix(background_lufs=lufs)
    assert FussMix(background_lufs=-55.0).lufs == -55


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"reverb": "measured"}, "no --rirs"),
        ({"reverb": "simulated", "rirs": "x"}, "--reverb simulated: --reverb measured and --rirs"),
        ({"rooms": 3}, "--rooms: is for simulated rooms"),
        ({"rirs": "x", "rt60_s": (0.3, 0.4)}, "--rt60: is for simulated rooms"),
        ({"reverb": "simulated", "rt60_s": (0.01, 0.4)}, "--rt60 "),
        ({"reverb": "simulated", "rooms": -1}, "--rooms -1"),
    ],
)
def test_options_of_rooms_that_do_not_go_together(options: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=told):
        FussMix(**options)
    assert FussMix(rirs="x").reverb == "measured"
