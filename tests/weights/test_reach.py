"""Models by name: who wins, and what stays hidden."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from usepcli.errors import InputNotFound
from usepcli.weights import reach


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("USEP_MODELS", os.pathsep.join([str(tmp_path / "one"), "", str(tmp_path / "none")]))
    return tmp_path


def test_order_of_the_folders(place: Path) -> None:
    cached = touch(place / "cache/usep/models/toy.safetensors")
    assert reach.find_model("toy") == cached
    listed = touch(place / "one/toy.safetensors")
    assert reach.find_model("toy") == listed
    near = touch(place / "models/toy.safetensors")
    assert reach.known()["toy"] == [near.relative_to(place), listed, cached]


def test_a_shipped_name_means_the_shipped_model(place: Path) -> None:
    own = touch(place / "models/default.safetensors")
    (place / "default").mkdir()
    touch(place / "default/best.safetensors")
    shipped = reach.released()["default"]
    assert reach.find_model("default") == shipped
    assert reach.known()["default"] == [shipped, own.relative_to(place)]
    assert reach.find_model("./default") == Path("default/best.safetensors")


def test_a_run_folder_goes_before_a_pulled_name_and_a_bare_folder_after(place: Path) -> None:
    cached = touch(place / "cache/usep/models/toy.safetensors")
    (place / "toy").mkdir()
    assert reach.find_model("toy") == cached
    run = touch(place / "toy/best.safetensors")
    assert reach.find_model("toy") == run.relative_to(place)


def test_unknown_names_are_answered_with_what_is_in_reach(place: Path) -> None:
    touch(place / "models/mine.safetensors")
    with pytest.raises(InputNotFound, match=r"did you mean 'mine'.*default.*mine"):
        reach.find_model("mien")


@pytest.mark.parametrize("value", ["", "relative"])
def test_cache_without_a_usable_variable(value: str) -> None:
    assert reach.cache({"XDG_CACHE_HOME": value}) == Path.home() / ".cache/usep/models"
