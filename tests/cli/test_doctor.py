"""usep doctor."""

from __future__ import annotations

import json
import platform
from importlib import util

import pytest
from typer.testing import CliRunner

import usepcli
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
    assert facts["cores"] >= 1 and facts["memory_gib"] > 0
    assert facts["settings"] == {"USEP_RUNS": "elsewhere"}
    assert set(facts["extras"]) == set(doctor.EXTRAS)


def test_missing_extra_names_its_install_line(monkeypatch: pytest.MonkeyPatch):
    present = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "matplotlib" else present(name))
    lines = RUNNER.invoke(app, ["doctor"]).stdout.splitlines()
    line = next(line for line in lines if line.startswith("extras.plot"))
    assert line.endswith("missing matplotlib: pip install 'usepcli[plot]'")


def test_missing_package_is_said():
    assert doctor._version("no-such-package-here").startswith("missing")


def test_extras_are_those_of_the_package(root):
    import tomllib

    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(extras)
