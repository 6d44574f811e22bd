"""Every registered name leads to something that exists."""

from __future__ import annotations

import pytest

from usepcli import registry
from usepcli.errors import ConfigError
from usepcli.profile.signature import signature

PARTS = [(kind, name) for kind, table in registry.TABLES.items() for name in table]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_part_can_be_loaded(kind: str, name: str):
    part = registry.load(kind, name)
    if kind == "metric":  # instances, with the name under which their columns appear
        assert part.name == name
    else:
        assert part.__name__ == registry.target(kind, name).split(":")[1]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in PARTS if kind not in ("metric", "cluster")])
def test_signature_in_the_source_is_the_signature_of_the_class(kind: str, name: str):
    import inspect

    part = registry.load(kind, name)
    found = signature(kind, name).parameters
    true = inspect.signature(part).parameters
    hidden = {"model", "loss"} if kind == "objective" else set()
    named = {key for key, p in true.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    common = {}
    for table in (key.upper() for key, p in true.items() if p.kind is p.VAR_KEYWORD):
        common |= {key: told for base in reversed(part.__mro__) for key, told in vars(base).get(table, {}).items()}
    assert set(found) == (named | common.keys()) - hidden
    assert {key: found[key].default for key in common} == common
    for key, parameter in found.items():
        if key in common:
            continue
        empty = true[key].default is inspect.Parameter.empty
        assert parameter.required == empty
        if not empty:
            assert parameter.default == true[key].default


def test_presets_in_the_source_are_the_presets_of_the_class():
    for name in registry.MODELS:
        assert signature("model", name).presets == registry.load("model", name).PRESETS


def test_names_are_plain_and_sorted():
    for kind, table in registry.TABLES.items():
        assert list(table) == sorted(table), kind
        for name in table:
            assert name == name.lower() and name.replace("-", "").replace("_", "").isalnum()


def test_unknown_part_is_answered_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown loss 'snrr' \(did you mean 'snr'\?\); choose from: .*log_mse"):
        registry.load("loss", "snrr")
