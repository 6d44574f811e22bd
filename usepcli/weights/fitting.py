"""A model made from a file's settings, only after they were found to fit the file's tensors.

The settings of a file that somebody sent may claim any size. Making stops where it has many more parameters than the
file holds; where a setting is large, the model is first made without memory (torch's meta device, whose first use
takes seconds) and compared with the tensors by name and shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from usepcli.errors import LONGEST_NAME, BadInput, ConfigError
from usepcli.models.queried import Model
from usepcli.profile import signature
from usepcli.weights import build

_SPARE = 64, 2**20  # tensors and numbers beyond twice those of the file, so that the error can name what is missing
_USUAL = 4096  # a setting up to here asks for no more than 64 MiB before the count of parameters stops it


class _TooMany(Exception):
    """More parameters than the file has tensors for."""


def model(settings: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> Model:
    """Return the model of the settings with the weights of the file; BadInput where they do not fit each other."""
    if not isinstance(settings, Mapping) or not isinstance(settings.get("name"), str):
        raise BadInput(f"{where}: names no architecture under model.name: no separator, a part of a training perhaps")
    check_kinds(settings, where)
    sizes = [value for key, value in settings.items() if isinstance(value, (int, float)) and key != "sample_rate"]
    try:
        if max(map(abs, sizes), default=0) > _USUAL:
            _compare_without_memory(settings, state, where)
        with _at_most(state):
            made = build.model(settings)
    except _TooMany as fault:
        raise BadInput(
            f"{where}: the settings ask for more parts or larger ones than the {len(state)} tensors in the file"
        ) from fault
    except (ConfigError, TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError) as fault:
        first = (str(fault).strip().splitlines() or [type(fault).__name__])[0][:300]
        raise BadInput(f"{where}: settings of which no model can be made ({first})") from fault
    load_into(made, state, where)
    return made.eval()


def check_kinds(settings: Mapping[str, Any], where: str) -> None:
    """BadInput for the first setting that is not of the kind that its constructor states."""
    given = {key: value for key, value in settings.items() if key not in ("name", "preset")}
    try:
        signature.schema("model", settings["name"]).model_validate(given)
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


def _compare_without_memory(settings: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> None:
    with torch.device("meta"), _at_most({}, 2 * len(state) + _SPARE[0]):
        shape = build.model(settings)
    load_into(shape, state, where, dry=True)


@contextmanager
def _at_most(state: Mapping[str, Tensor], count: int = 0) -> Iterator[None]:
    """Stop a model that takes more than twice the numbers in `state`, or more than `count` parameters."""
    numbers = 2 * sum(part.numel() for part in state.values()) + _SPARE[1]
    left = [count or 2 * len(state) + _SPARE[0], math.inf if count else numbers]

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


def load_into(module: nn.Module, state: Mapping[str, Tensor], where: str, dry: bool = False) -> None:
    """Copy a state dict strictly; BadInput names the first differing keys or shapes.  dry: compare alone."""
    own = module.state_dict()
    compare(own, state, where)
    if not dry:
        module.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()})


def compare(own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Compare two state dicts; BadInput names the first keys or shapes in which `state` differs."""
    wrong = [k for k in own if k not in state] + [k for k in state if k not in own]
    wrong += [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if wrong:
        raise BadInput(f"{where}: {len(wrong)} tensors do not fit the model, the first: {'; '.join(wrong[:3])}")
