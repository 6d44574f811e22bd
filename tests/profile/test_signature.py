"""Constructor signatures read without importing."""

from __future__ import annotations

import math
import sys

import pytest

from usepcli.errors import ConfigError
from usepcli.profile.signature import schema, signature


@pytest.mark.usefixtures("parts")
def test_parameters_defaults_and_presets():
    found = signature("model", "toy")
    defaults = {name: parameter.default for name, parameter in found.parameters.items()}
    assert defaults == {
        "n_src": 2, "width": 64, "rate": 1e-3, "deep": False, "kind": "relu", "window": None,
        "limits": (1, 2), "gains": (), "floor": -math.inf,
    }  # fmt: skip
    assert found.presets == {"tiny": {"width": 8}, "big": {"width": 512, "limits": (1, 9)}}
    assert "toyparts.parts" not in sys.modules


@pytest.mark.usefixtures("parts")
def test_dataclass_fields_and_inheritance():
    for name in ("snr", "heir"):
        found = signature("loss", name).parameters
        assert [(p.name, p.required) for p in found.values()] == [("gain_db", True), ("clip", False)]


@pytest.mark.usefixtures("parts")
def test_injected_arguments_of_an_objective_are_no_keys():
    assert list(signature("objective", "pit").parameters) == ["share", "weights"]


@pytest.mark.usefixtures("parts")
def test_schema_keeps_types():
    bound = schema("model", "toy").model_validate({"limits": [3, 4], "kind": "silu", "window": "hann", "rate": 1})
    assert (bound.limits, bound.kind, bound.window, bound.rate) == ((3, 4), "silu", "hann", 1.0)


@pytest.mark.usefixtures("parts")
def test_unknown_name():
    with pytest.raises(ConfigError, match="did you mean 'toy'"):
        signature("model", "toyy")


@pytest.mark.usefixtures("parts")
def test_shared_arguments_are_read_once_with_the_nearest_defaults():
    found = signature("model", "sharing").parameters
    assert {name: p.default for name, p in found.items()} == {"width": 3, "n_src": 4, "rate": 16000, "kind": "relu"}
    assert schema("model", "sharing").model_validate({"kind": "silu"}).kind == "silu"


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize(("name", "argument"), [("gated", "gate"), ("loose", "options"), ("many", "sizes")])
def test_an_argument_that_cannot_be_read_is_an_error(name: str, argument: str):
    with pytest.raises(ConfigError, match=f"argument '{argument}' cannot be read"):
        signature("model", name)
