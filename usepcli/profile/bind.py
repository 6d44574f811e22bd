"""From nested values to a typed Profile: every fault collected, every value with its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from usepcli import registry
from usepcli.errors import ConfigError, did_you_mean
from usepcli.profile import signature
from usepcli.profile.faults import MOST_SHOWN, Fault, ProfileError
from usepcli.profile.schema import BLIND, JUDGED, Profile, Section

OPEN = ("model", "loss", "objective")
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (put it in quotes)",
    "list_type": "a list such as [a, b]",
    "tuple_type": "a list such as [a, b]",
    "dict_type": "keys and values",
    "model_type": "a section of keys",
    "none_required": "null",
}


def _shown(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(prefix: str, location: tuple[int | str, ...], values: Any) -> str:
    """Join a pydantic location to a dotted key; union branches, which are no keys, are left out."""
    key = prefix
    for part in location:
        if isinstance(part, int) and isinstance(values, (list, tuple)):
            key, values = f"{key}[{part}]", values[part] if part < len(values) else None
        elif isinstance(values, Mapping):
            key = f"{key}.{part}" if key else str(part)
            values = values.get(part) if isinstance(values, Mapping) else None
    return key


@dataclass
class _Report:
    """Collects faults and knows where each dotted key was set."""

    origin: Mapping[str, str]
    fallback: str
    faults: dict[Fault, None]  # in the order in which they were met, each once

    def where(self, key: str) -> str:
        """Return the origin of a key, or of the nearest section around it that has one."""
        key = key.split("[")[0]
        while key:
            if key in self.origin:
                return self.origin[key]
            key = key.rpartition(".")[0]
        return self.fallback

    def add(self, key: str, found: str, expected: str, hint: str = "") -> None:
        """Record one fault, once per key and wording."""
        self.faults[Fault(key, self.where(key), found, expected, hint)] = None

    def unknown(self, key: str, known: list[str]) -> None:
        """Record a key that nothing reads."""
        name = key.rpartition(".")[2]
        expected = f"one of {', '.join(sorted(known))}" if known else "no further keys here"
        # Of so many as nobody reads, the nearest names would take minutes.
        near = did_you_mean(name, known) if len(self.faults) < MOST_SHOWN else ""
        self.add(key, "an unknown key", expected, near)

    def pydantic(self, error: ValidationError, prefix: str, values: Any, schema: type[BaseModel]) -> None:
        """Record every finding of a pydantic report; the branches of a union become one fault."""
        joined: dict[str, tuple[str, list[str], str]] = {}
        for item in error.errors(include_url=False):
            key = _dotted(prefix, item["loc"], values)
            if item["type"] == "extra_forbidden":
                self.unknown(key, _keys_at(schema, item["loc"][:-1]))
            elif item["type"] == "missing":
                self.add(key, "nothing", "a value, which this part requires")
            else:
                found, wanted, hint = joined.setdefault(key, (_shown(item["input"]), [], ""))
                expected, near = _expectation(dict(item))
                wanted += [expected] if expected not in wanted else []
                joined[key] = (found, wanted, hint or near)
        for key, (found, wanted, hint) in joined.items():
            self.add(key, found, " or ".join(wanted), hint)


def _expectation(item: dict[str, Any]) -> tuple[str, str]:
    kind, context = item["type"], item.get("ctx") or {}
    if kind == "literal_error":
        options = [part.strip("'") for part in context["expected"].replace(" or ", ", ").split(", ")]
        near = did_you_mean(item["input"], options) if isinstance(item["input"], str) else ""
        return f"one of {', '.join(options)}", near
    if kind == "value_error":
        return str(context["error"]), ""
    if kind in ("too_short", "too_long"):
        bound = context.get("min_length", context.get("max_length"))
        return f"a list of {bound} values" if kind == "too_long" else f"a list of at least {bound} values", ""
    text = _EXPECTED.get(kind) or item["msg"].removeprefix("Input should be ").lower()
    return ("a value " + text if text.startswith(("greater", "less")) else text), ""


def _keys_at(schema: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        kind = schema.model_fields[str(part)].annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        schema = kind
    return list(schema.model_fields)


def _open_section(kind: str, section: Any, report: _Report) -> dict[str, Any]:
    """Check {name, preset, **arguments} against the named constructor; return the typed arguments."""
    if not isinstance(section, Mapping):
        report.add(kind, _shown(section), f"a section, for instance '{kind}: {{name: ...}}'")
        return {}
    given = dict(section)
    name = given.pop("name", {"loss": "snr", "objective": "pit"}.get(kind))
    table = registry.TABLES[kind]
    if not isinstance(name, str) or name not in table:
        found = "nothing" if name is None else _shown(name)
        report.add(f"{kind}.name", found, f"one of {', '.join(sorted(table))}", did_you_mean(str(name), table))
        return {}
    try:
        known = signature.signature(kind, name)
        schema = signature.schema(kind, name)
    except ConfigError as error:
        report.add(kind, f"'{name}'", f"a part that can be used ({error})")
        return {}
    bound: dict[str, Any] = {"name": name}
    if kind == "model":
        bound["preset"] = _preset(given.pop("preset", ""), known, report)
    try:
        bound |= schema.model_validate(given).model_dump(include=set(given))
    except ValidationError as error:
        report.pydantic(error, kind, given, schema)
    return bound


def _preset(value: Any, known: signature.Signature, report: _Report) -> str:
    presets = known.presets or {}
    if isinstance(value, str) and (value == "" or value in presets):
        return value
    expected = f"one of {', '.join(sorted(presets))}" if presets else "no preset, this model has none"
    report.add("model.preset", _shown(value), expected, did_you_mean(str(value), presets))
    return ""


def _check_metrics(section: Any, report: _Report) -> None:
    given = section if isinstance(section, Mapping) else {}
    also, known = given.get("also"), {*registry.METRICS, *BLIND, *JUDGED}
    named = [("valid.metric", given.get("metric"))]
    named += [("valid.also", name) for name in (also if isinstance(also, list) else [])]
    for key, name in named:
        if isinstance(name, str) and name not in known:
            report.add(key, f"'{name}'", f"one of {', '.join(sorted(known))}", did_you_mean(name, known))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _origins(profile: Profile, report: _Report) -> dict[str, str]:
    """Return the origin of every value, constructor defaults and presets of the open sections included."""
    found = {key: report.origin.get(key, "default") for key in _leaves(profile.model_dump())}
    for kind in OPEN:
        section = getattr(profile, kind)
        known = signature.signature(kind, section["name"])
        preset = (known.presets or {}).get(section.get("preset", ""), {})
        for name in known.parameters:
            source = f"preset {section['preset']}" if name in preset else "default"
            found.setdefault(f"{kind}.{name}", source)
    return found


def bind(
    values: Mapping[str, Any],
    origin: Mapping[str, str],
    name: str,
    fallback: str,
    faults: list[Fault] | None = None,
) -> Profile:
    """Return the typed profile of nested values, or raise one ProfileError that lists every fault.

    `origin` maps dotted keys to where they were set, `fallback` is said of keys without one, and `faults` are
    those that reading has met already.
    """
    report = _Report(origin, fallback, dict.fromkeys(faults or []))
    fixed = {key: {} if value is None and _is_section(key) else value for key, value in values.items()}
    bound = {kind: _open_section(kind, fixed.pop(kind, {}), report) for kind in OPEN}
    profile = None
    try:
        profile = Profile.model_validate(fixed | bound)
    except ValidationError as error:
        report.pydantic(error, "", fixed | bound, Profile)
    _check_metrics(fixed.get("valid"), report)
    if report.faults or profile is None:
        raise ProfileError(name, sorted(report.faults, key=_by_line))
    profile._name = name
    profile._origin = _origins(profile, report)
    return profile


def _by_line(fault: Fault) -> tuple[str, int]:
    place, _, line = fault.where.rpartition(":")
    return (place, int(line)) if line.isdecimal() else (fault.where, 0)


def _is_section(key: str) -> bool:
    field = Profile.model_fields.get(key)
    return key in OPEN or (
        field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    )


def from_dict(values: Mapping[str, Any], name: str, origin: str = "checkpoint") -> Profile:
    """Return the profile stored in a checkpoint or a run; ProfileError if this version cannot bind it."""
    return bind(values, dict.fromkeys(_leaves(values), origin), name, origin)
