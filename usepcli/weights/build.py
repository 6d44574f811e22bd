"""From the model section of a profile or of a card to a model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from usepcli import registry
from usepcli.errors import ConfigError, choices
from usepcli.models.queried import Model


def model(section: Mapping[str, Any]) -> Model:
    """Build a model from {"name", "preset", **options}; `.config` of the result names every setting."""
    options = dict(section)
    name, preset = options.pop("name"), options.pop("preset", "")
    kind = registry.load("model", name)
    if preset:
        if preset not in kind.PRESETS:
            raise ConfigError(f"model.preset: {choices('preset', preset, kind.PRESETS)}")
        options = {**kind.PRESETS[preset], **options}
    signature = inspect.signature(kind).parameters
    for key in options:
        if key not in signature:
            raise ConfigError(f"model.{key}: {choices('setting', key, signature)}")
    built: Model = kind(**options)
    # Every value is written out, so that a stored model does not change when a default or a preset does.
    values = {key: options.get(key, p.default) for key, p in signature.items()}
    settings = {"name": name, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}
    # Past nn.Module.__setattr__, which takes attributes for tensors or modules.
    object.__setattr__(built, "config", settings)
    return built


def config_of(built: Model) -> dict[str, Any]:
    """Return the settings from which `model` makes the same architecture again."""
    settings: dict[str, Any] = built.__dict__["config"]
    return settings
