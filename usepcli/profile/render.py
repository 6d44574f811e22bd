"""A profile as YAML text in which every line says where its value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from usepcli.profile import signature
from usepcli.profile.bind import OPEN
from usepcli.profile.schema import Profile, plain

_COLUMN = 44


def _text(value: Any) -> str:
    # JSON flow values are YAML, and quote what needs quoting; infinity alone is spelled differently.
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return ".inf" if value > 0 else "-.inf"
    return json.dumps(value, ensure_ascii=False)


def resolved(profile: Profile) -> dict[str, Any]:
    """Return the nested values with the presets and constructor defaults of the parts written out."""
    values = profile.as_dict()
    for kind in OPEN:
        section = values[kind]
        known = signature.signature(kind, section["name"])
        preset = (known.presets or {}).get(section.get("preset", ""), {})
        for parameter in known.parameters.values():
            section.setdefault(parameter.name, plain(preset.get(parameter.name, parameter.default)))
    return values


def _lines(values: Mapping[str, Any], origin: Mapping[str, str], prefix: str = "", indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        key = prefix + name
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, origin, key + ".", indent + "  ")
        elif value is signature.UNKNOWN:
            yield f"{indent}# {name}: set by the code"
        else:
            yield f"{indent}{name}: {_text(value)}".ljust(_COLUMN) + f"  # {origin.get(key, 'default')}"


def render_config(profile: Profile) -> str:
    """Return the profile as YAML with the origin of every value in a comment; it loads as a profile again."""
    values = resolved(profile)
    del values["extends"]  # its content is part of the values already
    return "\n".join([f"# profile {profile.name}", *_lines(values, profile.origin)]) + "\n"
