"""--print-config: every value, its origin, and a text that is a profile again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from usepcli.profile.load import load_profile, render_config
from usepcli.profile.render import resolved


def test_every_line_has_an_origin_and_the_text_loads_again(write: Callable[[str, str], str]):
    name = write("a", "about: 'it''s: a # toy'\nmodel: {name: toy, preset: big, rate: 2}\nloss: {gain_db: -3}\n")
    profile = load_profile(name, ["optim.lr=1e-5"], {"USEP_DATA__SPEEDS": "[0.9, 1.1]"})
    text = render_config(profile)
    lines = {line.split(":")[0].strip(): line.rsplit("  # ", 1)[-1] for line in text.splitlines() if "  # " in line}
    assert lines["lr"] == "--set"
    assert lines["speeds"] == "USEP_DATA__SPEEDS"
    assert lines["width"] == lines["limits"] == "preset big"
    assert lines["rate"] == "profiles/a.yaml:2"
    assert lines["epochs"] == "default"
    assert "floor: -.inf" in text
    Path("again.yaml").write_text(text)
    again = load_profile("again.yaml", environ={})
    assert resolved(again) == resolved(profile)
    assert again.about == "it's: a # toy"
