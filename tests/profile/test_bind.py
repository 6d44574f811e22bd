"""Binding arbitrary values: a profile, or a report with a key for every fault."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli import registry
from usepcli.profile.bind import bind
from usepcli.profile.faults import ProfileError
from usepcli.profile.schema import Profile

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([*registry.MODELS, *registry.LOSSES, *registry.OBJECTIVES, "nothing"])
KEYS = st.sampled_from(["name", "preset", "n_src", "epochs", "lr", "betas", "speeds", "metric", "weights"])
SECTIONS = st.dictionaries(KEYS, VALUES | NAMES, max_size=4)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(list(Profile.model_fields)) | st.text(max_size=4), SECTIONS | VALUES))
def test_any_values_bind_or_are_reported(values: dict):
    try:
        profile = bind(values, {}, "x", "x.yaml")
    except ProfileError as error:
        assert error.faults and all(fault.key or ("" in values) for fault in error.faults)
        assert all(fault.where == "x.yaml" and fault.expected for fault in error.faults)
    else:
        assert profile.model.name in registry.MODELS


def test_every_model_binds_with_its_name_alone():
    for name in registry.MODELS:
        profile = bind({"model": {"name": name}}, {}, "x", "x.yaml")
        assert profile.origin["model.sample_rate"] == "default"


def test_every_preset_has_typed_values():
    from usepcli.profile.signature import signature

    for name in registry.MODELS:
        presets = signature("model", name).presets or {}
        assert {"tiny", "small"} <= set(presets)
        for preset, values in presets.items():
            assert bind({"model": {"name": name, **values}}, {}, "x", "x.yaml").model.options == values, preset
