"""What is in the wheel: all of the package and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import usepcli

NAME = f"usepcli-{usepcli.__version__}"
BUILD = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The sizes of the files in a wheel that is built from this tree."""
    pytest.importorskip("hatchling", reason="the build backend is not installed: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / f"{NAME}-py3-none-any.whl") as file:
        return {entry.filename: entry.file_size for entry in file.infolist()}


def sizes(folder: Path, pattern: str, under: str) -> dict[str, int]:
    found = [path for path in folder.rglob(pattern) if path.is_file() and "__pycache__" not in path.parts]
    return {f"{under}/{path.relative_to(folder).as_posix()}": path.stat().st_size for path in found}


@pytest.mark.parametrize(
    ("folder", "pattern", "under", "least"),
    [
        ("usepcli", "*.py", "usepcli", 200),
        ("usepcli", "py.typed", "usepcli", 1),
        ("usepcli/report/assets", "*.css", "usepcli/report/assets", 3),
        ("usepcli/report/assets", "*.js", "usepcli/report/assets", 2),
        ("usepcli/pretrained", "*.safetensors", "usepcli/pretrained", 1),
        ("usepcli/published", "*.csv", "usepcli/published", 2),
        ("usepcli/samples", "*", "usepcli/samples", 10),
        ("profiles", "*.yaml", "usepcli/profiles", 20),
        ("man", "*.1", f"{NAME}.data/data/share/man/man1", 10),
    ],
)
def test_the_wheel_holds(root: Path, wheel: dict[str, int], folder: str, pattern: str, under: str, least: int) -> None:
    wanted = sizes(root / folder, pattern, under)
    assert len(wanted) >= least
    assert {name: wheel.get(name) for name in wanted} == wanted


def test_shared_data_is_what_pyproject_names(root: Path, wheel: dict[str, int]) -> None:
    with (root / "pyproject.toml").open("rb") as file:
        shared = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    wanted: dict[str, int] = {}
    for source, target in shared.items():
        place, under = root / source, f"{NAME}.data/data/{target}"
        wanted |= sizes(place, "*", under) if place.is_dir() else {under: place.stat().st_size}
    assert {name: size for name, size in wheel.items() if name.startswith(f"{NAME}.data/")} == wanted
    assert any("bash-completion" in name for name in wanted) and any(name.endswith("usep.fish") for name in wanted)


def test_the_wheel_holds_nothing_else(wheel: dict[str, int]) -> None:
    assert {name.split("/")[0] for name in wheel} == {"usepcli", f"{NAME}.data", f"{NAME}.dist-info"}
    parts = {part for name in wheel for part in name.split("/")}
    assert not parts & {"tests", "benchmarks", "__pycache__", "CONTRIBUTING.md"}
    assert not [name for name in wheel if name.endswith((".pyc", ".tmp", ".ckpt"))]
