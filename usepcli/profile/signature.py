"""The constructor signature of a registered part, read from its source: the signature is the schema.

The class is never imported, so a typo in a profile is answered without loading torch. Followed are
annotations made of int, float, str, bool, None, list, tuple, dict, Literal and unions. What the engine gives (INJECTED)
and what begins with an underscore is no key of a profile; any other argument that cannot be read is an error, since a
profile could never set it. Arguments that many parts share stand once in a TypedDict: `**common: Unpack[Common]`
reads its keys, with the defaults of the class attribute COMMON of the class and of its bases, the nearest first.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model

from usepcli import registry
from usepcli.errors import ConfigError

INJECTED = {"objective": frozenset({"model", "loss"})}
_PLAIN: dict[str, Any] = {
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict, "Any": Any,
}  # fmt: skip
_CONSTANTS = {"math.inf": math.inf, "math.pi": math.pi, "math.e": math.e}
_FOLLOW = 8  # bases and imported aliases are followed this far


class _Unknown:
    """A default or type that the source does not spell out."""

    def __repr__(self) -> str:
        return "(set by the code)"


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class Parameter:
    """One constructor argument that a profile may set."""

    name: str
    type: Any
    default: Any = UNKNOWN
    required: bool = False


@dataclass(frozen=True)
class Signature:
    """The arguments of a part and, for a model, its presets (None where the class names none)."""

    target: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    presets: dict[str, dict[str, Any]] | None = None


@functools.cache
def _module(name: str) -> ast.Module:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ConfigError(f"module {name} is registered but not installed; install usepcli again")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"), spec.origin)


def _bindings(name: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield (name, node) of what a module defines at its top, the bodies of `if` and `try` included."""
    pending = list(_module(name).body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((goal.id, node.value) for goal in node.targets if isinstance(goal, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((alias.asname or alias.name, node) for alias in node.names)
        elif isinstance(node, (ast.If, ast.Try)):
            pending = list(node.body) + pending


def _lookup(module: str, name: str, depth: int = 0) -> tuple[str, ast.AST] | None:
    """Return (module, node) that `name` means in `module`, following imports inside this package."""
    node = dict(_bindings(module)).get(name)
    if isinstance(node, ast.ImportFrom):
        source = str(node.module)
        if depth >= _FOLLOW or source.split(".")[0] != module.split(".")[0]:
            return None
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        return _lookup(source, original, depth + 1)
    return None if node is None else (module, node)


def _constant(node: ast.AST | None, module: str, depth: int = 0) -> Any:
    """Return the value of a default: a literal, a constant of the module, or UNKNOWN."""
    if node is None or depth > _FOLLOW:
        return UNKNOWN
    try:
        return ast.literal_eval(node)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        pass
    if isinstance(node, ast.Name):
        found = _lookup(module, node.id)
        return _constant(found[1], found[0], depth + 1) if found else UNKNOWN
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _constant(node.operand, module, depth + 1)
        return -value if isinstance(value, (int, float)) else UNKNOWN
    if isinstance(node, ast.Dict):
        pairs = [
            (_constant(k, module, depth + 1), _constant(v, module, depth + 1))
            for k, v in zip(node.keys, node.values, strict=True)
        ]
        return UNKNOWN if any(k is UNKNOWN for k, _ in pairs) else dict(pairs)
    text = ast.unparse(node)
    return _CONSTANTS.get(text, math.inf if text in ("float('inf')",) else UNKNOWN)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _subscript(node: ast.Subscript, module: str, depth: int) -> Any:
    head = ast.unparse(node.value).rsplit(".", 1)[-1]
    parts = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if head == "Literal":
        options = tuple(_constant(part, module) for part in parts)
        return Literal[options]  # type: ignore[valid-type]
    if head == "Annotated":
        return _type(parts[0], module, depth + 1)
    kinds = [... if ast.unparse(part) == "..." else _type(part, module, depth + 1) for part in parts]
    if any(kind is UNKNOWN for kind in kinds):
        return UNKNOWN
    if head in ("Optional", "Union"):
        kinds += [None] if head == "Optional" else []
        return Union[tuple(kinds)]  # noqa: UP007 - built at run time
    if head in ("list", "List", "Sequence"):
        return GenericAlias(list, (kinds[0],))
    if head in ("tuple", "Tuple"):
        # YAML knows lists only; strict validation wants the tuple that the constructor asks for.
        return Annotated[tuple[tuple(kinds)], BeforeValidator(_as_tuple)]  # type: ignore[misc]
    if head in ("dict", "Dict", "Mapping"):
        return GenericAlias(dict, tuple(kinds))
    return UNKNOWN


def _type(node: ast.AST | None, module: str, depth: int = 0) -> Any:
    """Return the type that an annotation spells, Any without one, UNKNOWN for what YAML cannot hold."""
    if node is None:
        return Any
    if depth > _FOLLOW:
        return UNKNOWN
    if isinstance(node, ast.Constant):
        if node.value is None:
            return None
        return _type(ast.parse(str(node.value), mode="eval").body, module, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [_type(node.left, module, depth + 1), _type(node.right, module, depth + 1)]
        return UNKNOWN if UNKNOWN in sides else Union[tuple(sides)]  # noqa: UP007 - built at run time
    if isinstance(node, ast.Subscript):
        return _subscript(node, module, depth)
    if isinstance(node, ast.Name):
        if node.id in _PLAIN:
            return _PLAIN[node.id]
        if node.id == "tuple":
            return Annotated[tuple, BeforeValidator(_as_tuple)]
        found = _lookup(module, node.id)
        if found and not isinstance(found[1], ast.ClassDef):
            return _type(found[1], found[0], depth + 1)
    return UNKNOWN


def _ancestry(module: str, attribute: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield (module, class) of a class and of its bases inside this package, nearest first."""
    pending, seen = [(module, attribute)], 0
    while pending and seen < _FOLLOW:
        where, name = pending.pop(0)
        found = _lookup(where, name)
        seen += 1
        if found and isinstance(found[1], ast.ClassDef):
            yield found[0], found[1]
            pending += [(found[0], base.id) for base in found[1].bases if isinstance(base, ast.Name)]


def _from_init(
    function: ast.FunctionDef, module: str, defaults_of: Callable[[str], dict[str, Any]]
) -> Iterator[Parameter]:
    spec = function.args
    positional = [*spec.posonlyargs, *spec.args]
    required = len(positional) - len(spec.defaults)
    defaults: list[ast.expr | None] = [*[None] * required, *spec.defaults, *spec.kw_defaults]
    arguments = [*positional, *spec.kwonlyargs]
    for argument, default in list(zip(arguments, defaults, strict=True))[1:]:  # without self
        value = _constant(default, module)
        yield Parameter(argument.arg, _type(argument.annotation, module), value, default is None)
    if spec.vararg:
        yield Parameter(spec.vararg.arg, UNKNOWN)
    if spec.kwarg:
        yield from _unpacked(spec.kwarg, module, defaults_of)


def _unpacked(argument: ast.arg, module: str, defaults_of: Callable[[str], dict[str, Any]]) -> Iterator[Parameter]:
    """Yield the keys of `**name: Unpack[SomeTypedDict]`; of anything else one parameter that cannot be read."""
    node = argument.annotation
    node = ast.parse(str(node.value), mode="eval").body if isinstance(node, ast.Constant) else node
    found = None
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).rsplit(".", 1)[-1] == "Unpack":
        found = _lookup(module, ast.unparse(node.slice))
    if not found or not isinstance(found[1], ast.ClassDef):
        yield Parameter(argument.arg, UNKNOWN)
        return
    defaults = defaults_of(argument.arg.upper())
    for field_ in _from_fields(found[1], found[0]):
        value = defaults.get(field_.name, UNKNOWN)
        yield Parameter(field_.name, field_.type, value, value is UNKNOWN)


def _from_fields(cls: ast.ClassDef, module: str) -> Iterator[Parameter]:
    for node in cls.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if "ClassVar" not in ast.unparse(node.annotation):
            value = _constant(node.value, module)
            yield Parameter(node.target.id, _type(node.annotation, module), value, node.value is None)


def _parameters(module: str, attribute: str) -> list[Parameter]:
    def defaults_of(name: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for where, cls in _ancestry(module, attribute):
            merged = {**_class_dict(cls, name, where), **merged}
        return merged

    for where, cls in _ancestry(module, attribute):
        for node in cls.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return list(_from_init(node, where, defaults_of))
        if any("dataclass" in ast.unparse(mark) for mark in cls.decorator_list):
            return list(_from_fields(cls, where))
    return []


def _class_attribute(cls: ast.ClassDef, name: str) -> ast.AST | None:
    for node in cls.body:
        goals = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(goal, ast.Name) and goal.id == name for goal in goals):
            return getattr(node, "value", None)
    return None


def _class_dict(cls: ast.ClassDef, name: str, module: str) -> dict[str, Any]:
    node = _class_attribute(cls, name)
    value = {} if node is None else _constant(node, module)
    return value if isinstance(value, dict) else {}


def _presets(module: str, attribute: str) -> dict[str, dict[str, Any]] | None:
    for where, cls in _ancestry(module, attribute):
        if node := _class_attribute(cls, "PRESETS"):
            value = _constant(node, where)
            return value if isinstance(value, dict) else None
    return None


@functools.cache
def signature(kind: str, name: str) -> Signature:
    """Return the arguments that a profile may give to a registered part; ConfigError if one of them cannot be read."""
    target = registry.target(kind, name)
    module, attribute = target.split(":")
    if _lookup(module, attribute) is None:
        raise ConfigError(f"{target} is registered but {module} defines no {attribute}")
    hidden = INJECTED.get(kind, frozenset())
    usable = [p for p in _parameters(module, attribute) if p.name not in hidden and not p.name.startswith("_")]
    for parameter in usable:
        if parameter.type is UNKNOWN:
            raise ConfigError(
                f"{target}: argument '{parameter.name}' cannot be read; annotate it with int, float, str, bool, list, "
                "tuple, dict, Literal or None, or begin its name with _ to keep it from profiles"
            )
    presets = _presets(module, attribute) if kind == "model" else None
    return Signature(target, {p.name: p for p in usable}, presets)


@functools.cache
def schema(kind: str, name: str) -> type[BaseModel]:
    """Return a pydantic model of the arguments; unknown keys and silent type changes are refused."""
    fields: dict[str, Any] = {}
    for parameter in signature(kind, name).parameters.values():
        fields[parameter.name] = (parameter.type, ... if parameter.required else parameter.default)
    config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    make: Callable[..., Any] = create_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an argument called "copy" shadows nothing that we use
        made: type[BaseModel] = make(f"{kind}_{name}".replace("-", "_"), __config__=config, **fields)
    return made
