"""From the model section of a profile or of a card to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usepcli import registry
from usepcli.errors import ConfigError, choices
from usepcli.models.queried import Model, QueriedModel
from usepcli.profile.signature import signature
from usepcli.weights.cards import Cost


def model(section: Mapping[str, Any]) -> Model:
    """Build a model from {"name", "preset", **options}; `.config` of the result names every setting."""
    options = dict(section)
    name, preset = options.pop("name"), options.pop("preset", "")
    kind = registry.load(registry.kind_of(name), name)
    if preset:
        if preset not in kind.PRESETS:
            raise ConfigError(f"model.preset: {choices('preset', preset, kind.PRESETS)}")
        options = {**kind.PRESETS[preset], **options}
    known = signature(registry.kind_of(name), name).parameters
    for key in options:
        if key not in known:
            raise ConfigError(f"model.{key}: {choices('setting', key, known)}")
    built: Model = kind(**options)
    # Every value is written out, so that a stored model does not change when a default or a preset does.
    values = {key: options.get(key, p.default) for key, p in known.items()}
    if isinstance(built, QueriedModel):
        values |= built.settled()
    settings = {"name": name, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}
    # Past nn.Module.__setattr__, which takes attributes for tensors or modules.
    object.__setattr__(built, "config", settings)
    return built


def cost_of(built: Model) -> dict[str, Any]:
    """Return what a model takes, for its card: see `cards.Cost`; arithmetic is counted on seconds of silence."""
    live = not isinstance(built, QueriedModel) and built.live
    field, flops = built.receptive_field_samples, built.flops_per_second()
    found = Cost(built.causal, built.latency_samples, field, flops, live)._asdict()
    stored = sum(value.numel() for value in built.state_dict().values())
    # Said only where it cannot be read off the file: running means of a norm, vectors of phrases.
    return found | {"parameters": built.n_params} if stored != built.n_params else _without(found, "parameters")


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def config_of(built: Model) -> dict[str, Any]:
    """Return the settings from which `model` makes the same architecture again."""
    settings: dict[str, Any] = built.__dict__["config"]
    return settings
