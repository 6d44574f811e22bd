"""Every profile that ships can be loaded and bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.profile.load import load_profile, profiles_available, render_config

FILES = sorted((Path(__file__).resolve().parents[2] / "profiles").rglob("*.y*ml"))


def test_profiles_ship_and_are_found_by_name():
    assert FILES
    assert {path.stem for path in FILES} <= {name for name, _, _ in profiles_available({})}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_profile_binds_and_says_what_it_is(path: Path):
    profile = load_profile(str(path), environ={})
    assert 10 < len(profile.about) <= 100 and "\n" not in profile.about
    assert render_config(profile).count("\n") > 60
