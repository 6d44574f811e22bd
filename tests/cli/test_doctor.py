"""usep doctor."""

from __future__ import annotations

import json
import platform
import re
from importlib import util

import pytest
from typer.testing import CliRunner

import usepcli
from usepcli import device, versions
from usepcli.cli import doctor
from usepcli.cli.app import app

RUNNER = CliRunner()


def test_facts(monkeypatch: pytest.MonkeyPatch):
    import soundfile
    import torch

    monkeypatch.setenv("USEP_RUNS", "elsewhere")
    facts = json.loads(RUNNER.invoke(app, ["doctor", "--json"]).stdout)
    assert facts["usep"] == usepcli.__version__ and facts["python"] == platform.python_version()
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert facts["versions"]["libsndfile"] == soundfile.__libsndfile_version__
    assert facts["devices"][0] == "cpu" and facts["threads"] == torch.get_num_threads()
    assert facts["cuda_build"] == (torch.version.cuda or "none")
    assert facts["cores"] >= 1 and facts["memory_gib"] > 0
    assert facts["settings"] == {"USEP_RUNS": "elsewhere"}
    assert set(facts["extras"]) == set(versions.EXTRAS)


def test_load_asks_torch_itself(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    looked, loaded = (json.loads(RUNNER.invoke(app, ["doctor", *more, "--json"]).stdout) for more in ([], ["--load"]))
    assert looked["threads"] is None and "torch_import" not in looked
    assert loaded["threads"] == torch.get_num_threads() and loaded["torch_import"] == "works"
    assert loaded["devices"] == looked["devices"] and loaded["cuda_build"] == looked["cuda_build"]
    assert set(looked) == set(loaded) - {"torch_import"}


GPU = "Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-{number}aa-bb\nDevice Minor: \t {number}\n"


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (None, ["NVIDIA H100", "NVIDIA L4"]), ("1,0", ["NVIDIA L4", "NVIDIA H100"]), ("0", ["NVIDIA H100"]),
        ("", []), ("-1", []), ("0,7,1", ["NVIDIA H100"]), ("GPU-3aa", ["NVIDIA L4"]),
    ],
)  # fmt: skip
def test_gpus_are_read_from_the_driver(asked: str | None, names: list[str], tmp_path, monkeypatch: pytest.MonkeyPatch):
    for number, text in ((0, GPU), (2, GPU), (3, GPU.replace("H100", "L4"))):
        (tmp_path / f"proc/{number}").mkdir(parents=True)
        (tmp_path / f"proc/{number}/information").write_text(text.format(number=number))
    (tmp_path / "dev").mkdir()
    for number in (0, 3):  # the container has not got the third
        (tmp_path / f"dev/nvidia{number}").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if asked is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert device.seen(tmp_path / "proc", tmp_path / "dev") == names


def test_missing_extra_names_its_install_line(monkeypatch: pytest.MonkeyPatch):
    present = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "matplotlib" else present(name))
    lines = RUNNER.invoke(app, ["doctor"]).stdout.splitlines()
    line = next(line for line in lines if line.startswith("extras.plot"))
    assert line.endswith("missing matplotlib: pip install 'usepcli[plot]'")


@pytest.mark.parametrize("said", ["²", "abc", "-1", "1.5", ""])
def test_threads_that_are_no_number_are_none(said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("USEP_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert json.loads(RUNNER.invoke(app, ["doctor", "--json"]).stdout)["threads"] is None


def test_missing_package_is_said():
    assert doctor._version("no-such-package-here").startswith("missing")


def test_extras_are_those_of_the_package(root):
    import tomllib

    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(versions.EXTRAS) == set(extras)
    # Those left out have runners and builders, of which nothing is imported, and a module of another name.
    for name in set(extras) - {"test", "dev", "judge-dev"}:
        packages = {re.split("[<>=]", line)[0] for line in extras[name]}
        assert set(versions.EXTRAS[name]) == packages
