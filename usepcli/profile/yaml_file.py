"""YAML with its traps closed: no duplicate keys, aliases, tags or surprising scalars.

Plain YAML 1.1 reads `1e-4` as text, `010` as 8, `1:30` as 90 and `no` as false, and lets the last of two
equal keys win. Here `true`/`false`, decimal numbers (with exponents) and null are resolved; everything else
stays text, which the typed schema then accepts or refuses by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from usepcli.errors import InputNotFound
from usepcli.profile.faults import Fault, ProfileError

MAX_BYTES = 1 << 20
MAX_DEPTH = 16

_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    # 18 digits fit every key we have, and keep int() away from its digit limit.
    "int": (r"[-+]?(?:0|[1-9][0-9]{0,17})", "-+0123456789"),
    "float": (
        r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
_PREFIX = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]
    """SafeLoader that refuses anchors, aliases and deep nesting, with resolvers of its own."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own interface
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are refused", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH}", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_PREFIX + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass
class Document:
    """The nested values of one YAML text, the line of every dotted key, and the faults met on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def _scalar(node: yaml.ScalarNode) -> Any:
    kind = node.tag.removeprefix(_PREFIX)
    text = node.value
    if kind == "str":
        return text
    if kind not in _SCALARS or not re.fullmatch(_SCALARS[kind][0], text):
        raise ValueError(f"{node.tag} {text!r}")
    if kind == "bool":
        return text.lower() == "true"
    if kind == "null":
        return None
    # YAML writes .inf and .nan where Python writes inf and nan.
    return int(text) if kind == "int" else float(re.sub(r"\.(?=[inIN])", "", text))


class _Reader:
    def __init__(self, label: str) -> None:
        self.label = label
        self.document = Document()

    def fault(self, key: str, node: yaml.Node, found: str, expected: str) -> None:
        where = f"{self.label}:{node.start_mark.line + 1}"
        self.document.faults.append(Fault(key, where, found, expected))

    def value(self, node: yaml.Node, key: str) -> Any:
        """Turn a node into plain values; `key` is the dotted path that leads to it ('' at the top)."""
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, f"{key}[{index}]") for index, item in enumerate(node.value)]
        try:
            return _scalar(node)
        except ValueError as error:
            self.fault(key, node, f"the tagged value {error}", "a plain value without a tag")
            return None

    def mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag != _PREFIX + "str":
                self.fault(key, key_node, f"the key {getattr(key_node, 'value', '?')!r}", "a name as key")
                continue
            name = key_node.value
            dotted = f"{key}.{name}" if key else name
            if name in values:
                first = self.document.lines[dotted]
                found = f"the key a second time (first in line {first})"
                self.fault(dotted, key_node, found, "every key once")
                continue
            self.document.lines[dotted] = key_node.start_mark.line + 1
            values[name] = self.value(value_node, dotted)
        return values


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def parse(text: str, label: str, name: str) -> Document:
    """Return the values and lines of one YAML mapping.

    `label` (a file) and `name` (a profile) go into messages; ProfileError if the text is no mapping.
    """
    reader = _Reader(label)
    try:
        node = _compose(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable text"
        raise ProfileError(name, [Fault("", f"{label}{line}", f"broken YAML ({problem})", "a mapping")]) from None
    if node is None:
        return reader.document
    if not isinstance(node, yaml.MappingNode):
        raise ProfileError(name, [Fault("", label, "no keys at the top", "a mapping such as 'about: ...'")])
    reader.document.values = reader.value(node, "")
    return reader.document


def parse_value(text: str) -> Any:
    """Return the value of an override's text, a scalar or a flow list; ValueError if it is neither."""
    try:
        node = _compose(text)
    except yaml.YAMLError:
        raise ValueError(f"{text!r}") from None
    if node is None:
        return None
    if isinstance(node, yaml.MappingNode):
        raise ValueError(f"{text!r}")
    reader = _Reader("")
    value = reader.value(node, "")
    if reader.document.faults:
        raise ValueError(f"{text!r}")
    return value


def read(path: Path, label: str) -> Document:
    """Read one file of at most 1 MiB of UTF-8; InputNotFound if absent, ProfileError if unreadable."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputNotFound(f"profile file {label} does not exist") from None
    except OSError as error:
        raise ProfileError(path.stem, [Fault("", label, str(error.strerror), "a readable file")]) from None
    if len(data) > MAX_BYTES:
        raise ProfileError(path.stem, [Fault("", label, "more than 1 MiB", "a small YAML file")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProfileError(path.stem, [Fault("", label, "bytes that are not UTF-8", "UTF-8 text")]) from None
    return parse(text, label, path.stem)
