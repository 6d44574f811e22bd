"""A model made from a file's settings, only after they were found to fit the file's tensors.

The settings of a file that somebody sent may claim any size. Making stops where it has many more parameters than the
file holds, and before any tensor far larger than the whole file: shapes are looked at before they get memory. (Torch's
meta device would do so, too, but its first use takes seconds, half a minute on a busy machine.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from usepcli import guard, registry
from usepcli.errors import LONGEST_NAME, BadInput, ConfigError, MissingDependency
from usepcli.models.queried import Model
from usepcli.profile import signature
from usepcli.weights import build

_SPARE = 64, 2**20  # tensors and numbers beyond twice those of the file, so that the error can name what is missing
_LARGEST = 2**24  # numbers of one tensor, 64 MiB, that any file may ask for on the way


class _TooMany(Exception):
    """More parameters than the file has tensors for."""


class _Bounded(TorchFunctionMode):
    """Refuse to make a tensor of more than `most` numbers, from nothing or by spreading smaller ones out."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _numbers(func.__name__, args, kwargs or {}) > self.most:
            raise _TooMany
        return func(*args, **(kwargs or {}))


def _numbers(name: str, args: Sequence[Any], given: Mapping[str, Any]) -> float:
    """Return how many numbers the result of a torch function has, as far as its arguments tell."""
    parts = [part for part in args if isinstance(part, Tensor)]
    if parts:
        shapes = zip_longest(*(part.shape[::-1] for part in parts), fillvalue=1)
        return math.prod(map(max, shapes)) if len(parts) > 1 else 0
    args = [*args, *(given[key] for key in ("size", "end", "steps", "n", "window_length") if key in given)]
    shape = next((part for part in args if isinstance(part, (list, tuple))), None)
    if shape is not None:
        return math.prod(shape)
    numbers = [abs(part) for part in args if isinstance(part, (int, float))]
    if name in ("arange", "range") and len(numbers) > 2:
        return (numbers[0] + numbers[1]) / (numbers[2] or 1)
    if name == "eye":
        return numbers[0] * numbers[-1]
    if name in ("empty", "zeros", "ones", "rand", "randn"):
        return math.prod(numbers)
    return max(numbers, default=0)


def model(settings: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> Model:
    """Return the model of the settings with the weights of the file; BadInput where they do not fit each other."""
    if not isinstance(settings, Mapping) or not isinstance(settings.get("name"), str):
        raise BadInput(f"{where}: names no architecture under model.name: no separator, a part of a training perhaps")
    check_kinds(settings, where)
    numbers = 2 * sum(part.numel() for part in state.values()) + _SPARE[1]
    try:
        with _at_most(2 * len(state) + _SPARE[0], numbers), _Bounded(max(numbers, _LARGEST)):
            made = build.model(settings)
    except _TooMany as fault:
        raise BadInput(
            f"{where}: the settings ask for more parts or larger ones than the {len(state)} tensors in the file"
        ) from fault
    except (ConfigError, TypeError, ValueError, ArithmeticError, RuntimeError) as fault:
        if guard.short_of_memory(fault):  # the machine's, for the model takes no more than its file
            raise
        first = (str(fault).strip().splitlines() or [type(fault).__name__])[0][:300]
        raise BadInput(f"{where}: settings of which no model can be made ({first})") from fault
    load_into(made, state, where)
    return made.eval()


def check_kinds(settings: Mapping[str, Any], where: str) -> None:
    """BadInput for the first setting that is not of the kind that its constructor states."""
    given = {key: value for key, value in settings.items() if key not in ("name", "preset")}
    try:
        signature.schema(registry.kind_of(settings["name"]), settings["name"]).model_validate(given)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        if first["type"] == "extra_forbidden":  # the builder names it, and the nearest that there is
            return
        key, found = ".".join(map(str, first["loc"])), repr(first["input"])[:60]
        said = f"model.{key[:LONGEST_NAME]}: found {found}; {first['msg'][:200]}"
        raise BadInput(f"{where}: settings of which no model can be made ({said})") from fault
    except ConfigError:  # an unknown name, which the builder tells, too
        return
    if odd := [key for key, value in given.items() if isinstance(value, float) and not math.isfinite(value)]:
        raise BadInput(f"{where}: model.{odd[0]}: found {given[odd[0]]}; expected a finite number")


@contextmanager
def _at_most(count: int, numbers: int) -> Iterator[None]:
    """Stop a model that takes more parameters than `count`, or more numbers in them."""
    left = [count, numbers]

    def one_more(part: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        left[0] -= parameter is not None
        left[1] -= 0 if parameter is None else parameter.numel()
        if min(left) < 0:
            raise _TooMany

    hook = register_module_parameter_registration_hook(one_more)
    try:
        yield
    finally:
        hook.remove()


def load_into(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy a state dict strictly; BadInput names the first differing keys or shapes."""
    own = module.state_dict()
    compare(own, state, where)
    try:
        module.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()})
    except (BadInput, MissingDependency) as fault:  # of a network that opens what it is given, a graph
        raise type(fault)(f"{where}: {fault}") from fault


def load_parts(module: nn.Module, state: Mapping[str, Tensor], parts: Sequence[str], where: str) -> int:
    """Copy the tensors that lie in some parts, by dotted names, and return how many; each part strictly.

    BadInput names a part that either side lacks, with those that it has, or the first tensors that do not fit.
    """
    own = module.state_dict()
    taken: dict[str, Tensor] = {}
    for part in parts:
        ours, theirs = _inside(own, part), _inside(state, part)
        for side, found, names in (("the model", ours, own), ("the file", theirs, state)):
            if not found:
                raise BadInput(f"{where}: {_short(part)!r} is no part of {side}, which has {_parts_of(names)}")
        compare(ours, theirs, f"{where}: {_short(part)}")
        taken |= {name: value.to(own[name].dtype) for name, value in theirs.items()}
    module.load_state_dict(own | taken)
    return len(taken)


def _inside(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name == part or name.startswith(f"{part}.")}


def _parts_of(names: Iterable[str]) -> str:
    parts = list(dict.fromkeys(name.split(".")[0] for name in names))
    return ", ".join(map(_short, parts[:8])) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")


def compare(own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Compare two state dicts; BadInput names the first keys or shapes in which `state` differs."""
    lacking = [k for k in own if k not in state]
    left = [k for k in state if k not in own]
    other = [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if not (wrong := lacking + left + other):
        return
    both = f"; the model lacks {_few(lacking)}, the file has more: {_few(left)}" if lacking and left else ""
    raise BadInput(
        f"{where}: {len(wrong)} tensors do not fit the model, the first: {'; '.join(map(_short, wrong[:3]))}{both}"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(_short, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(name: str) -> str:
    return name[: 2 * LONGEST_NAME]
