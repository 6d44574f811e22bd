"""YAML of other toolkits as plain values: tags stay text, and nothing that they name is made.

HyperPyYAML writes `encoder: !new:package.Class` with arguments beneath, and `!ref <key>` for a value that stands
elsewhere in the file. A tagged mapping keeps its tag under the key "!"; a tagged text keeps it in front.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from usepcli.engine.exchange.foreign_parts import plain
from usepcli.errors import BadInput

TAG = "!"
_OWN = "tag:yaml.org,2002:"
_MOST_NODES = 100_000  # aliases may repeat a part a million times
_DEEPEST = 40
_REF = re.compile(r"!ref <([^<>]+)>")


def from_yaml(text: str, where: str) -> dict[str, Any]:
    """Return the mapping in a YAML text as plain values; BadInput if it is none."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = _Plain().value(node, 0)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise BadInput(f"{where}: not readable as YAML ({plain(fault)[:160]})") from fault
    if not isinstance(found, dict):
        raise BadInput(f"{where}: expected a mapping of settings, found a {type(found).__name__}")
    return found


class _Plain:
    """What turns composed nodes into values, so many and no more."""

    def __init__(self) -> None:
        self.left = _MOST_NODES

    def value(self, node: Any, depth: int) -> Any:
        """Return a node's plain value; ValueError for too many or too deep ones."""
        self.left -= 1
        if self.left < 0 or depth > _DEEPEST:
            raise ValueError("too many values, or nested too deep")
        tag = "" if node is None or node.tag.startswith(_OWN) else node.tag
        if isinstance(node, yaml.MappingNode):
            # The first of two equal keys stays, as nowhere two would be meant.
            held = {plain(key.value): self.value(item, depth + 1) for key, item in reversed(node.value)}
            return {TAG: tag, **held} if tag else held
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        if node is None:
            return None
        return f"{tag} {node.value}".strip() if tag else _scalar(node)


def _scalar(node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.removeprefix(_OWN), node.value
    if kind == "bool":
        return text.lower() in ("true", "yes", "on")
    if kind == "null":
        return None
    if kind in ("int", "float") or re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", text):
        try:
            return int(text) if re.fullmatch(r"[-+]?\d{1,18}", text) else float(text.replace("_", ""))
        except ValueError:  # such as .inf or 0x10, which no setting of a model is
            return text
    return text


def resolved(settings: Mapping[str, Any], value: Any, where: str) -> Any:
    """Return a value with `!ref <key>` followed at the top of the settings; BadInput for what is no plain key."""
    for _ in range(_DEEPEST):
        if not (isinstance(value, str) and value.startswith("!ref")):
            return value
        match = _REF.fullmatch(value)
        if not match or match[1] not in settings:
            raise BadInput(f"{where}: '{plain(value)}' refers to no plain setting of this file")
        value = settings[match[1]]
    raise BadInput(f"{where}: '{plain(value)}' refers to itself")
