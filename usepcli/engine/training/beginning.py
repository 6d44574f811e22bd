"""What a run begins with that was trained before: first weights of every group, and stored models that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usepcli import device
from usepcli.engine.training.average import part_file
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.models.fixed import Fixed
from usepcli.models.queried import Model
from usepcli.objectives.base import MAIN, Objective
from usepcli.weights import build, cards, fitting, reach, store


def first_weights(profile: Any, student: Model) -> list[str]:
    """Load the weights of `init_from`, if any, into the student, or those of `init_parts`; return what to say of it.

    InputNotFound or BadInput name the key, and the settings of the model in which the weights do not fit.
    """
    if not profile.init_from:
        if profile.init_parts:
            raise ConfigError(f"init_parts: found {', '.join(profile.init_parts)}, of no model; set init_from")
        return []
    weights = _find("init_from", profile.init_from)
    card, ours = cards.read_card(weights)[0], build.config_of(student)
    theirs = card.model
    unlike = [f"model.{k}: {theirs[k]!r} there, {ours[k]!r} here" for k in ours if k in theirs and theirs[k] != ours[k]]
    differ = "; ".join(unlike)
    advice = f" ({differ}); --init-from {profile.init_from} takes over its model" if differ else ""
    rate = theirs.get("sample_rate", student.sample_rate)
    if rate != student.sample_rate:
        raise BadInput(f"init_from: {weights}: weights for {rate} Hz, and the model's rate is another{advice}")
    state, parts = store.read_weights(weights), profile.init_parts
    try:
        if parts:
            count = fitting.load_parts(student, state, parts, f"init_parts: {weights}")
        else:
            fitting.load_into(student, state, f"init_from: {weights}")
    except BadInput as fault:
        raise BadInput(f"{fault}{advice}") from fault
    said = [f"init_from: {profile.init_from} was trained with other settings ({differ})"] if differ else []
    if parts:
        said.append(
            f"init_parts: {count} of the model's {len(student.state_dict())} tensors come from {profile.init_from} "
            f"({', '.join(parts)}); the others begin anew"
        )
    if card.licence and card.licence not in profile.licence:
        said.append(
            f"init_from: what learns from {profile.init_from} carries its licence ({card.licence}) and its credits: "
            f"set licence and credits, see usep info {profile.init_from}"
        )
    return said


def first_parts(profile: Any, objective: Objective) -> list[str]:
    """Load what the run of `init_from` kept of the other groups; return what to say of those that begin anew."""
    said: list[str] = []
    if not profile.init_from:
        return said
    home = _find("init_from", profile.init_from)
    run = home.parent.parent if home.parent.name == "best" else home.parent
    for group, module in objective.groups().items():
        if group == MAIN:
            continue
        path = part_file(run, group)
        if path.is_file():
            fitting.load_into(module, store.read_weights(path), f"init_from: {path}")
        else:
            said.append(f"init_from: {run} keeps no weights of '{group}', which begins anew")
    return said


def stored_models(profile: Any, objective: Objective) -> None:
    """Give an objective the stored models that its settings name; ConfigError where it cannot begin without one."""
    for key, ref in objective.stored().items():
        if ref:
            path = _find(key, ref)
            try:
                model, _ = store.load_model(path)
            except BadInput as fault:
                raise BadInput(f"{key}: {fault}") from fault
            objective.give(key, Fixed(model, ref, cards.read_card(path)[1]))
    objective.ready(bool(profile.init_from))


def fixed_facts(objective: Objective) -> dict[str, dict[str, str]]:
    """Return where each frozen part came from and the sha256 of its weights."""
    return {name: {"reference": part.reference, "sha256": part.sha256} for name, part in objective.fixed().items()}


def compiled(profile: Any, student: Model, where: torch.device) -> list[str]:
    """Have the student's forward and backward compiled if the profile wants it; return what to say of it.

    Weights, checkpoints and validation stay as they are; the rounding is another. MissingDependency where torch cannot.
    """
    if not profile.train.compile:
        return []
    device.check_compiles(where)
    student.compile()
    return ["train.compile: the network is compiled in the first step of every start, which may take minutes"]


def check_fixed(before: Mapping[str, Mapping[str, str]], objective: Objective, where: str) -> None:
    """Raise BadInput where a frozen part is another one than the run began with."""
    for name, part in objective.fixed().items():
        known = before.get(name, {}).get("sha256", part.sha256)
        if known != part.sha256:
            raise BadInput(
                f"{where}: began with {part.reference} of sha256 {known[:12]}, found {part.sha256[:12]}; bring the "
                "former file back, or start in another folder with -o"
            )


def without_fixed(state: Mapping[str, Tensor], objective: Objective, where: str) -> dict[str, Tensor]:
    """Return a state without the frozen parts that earlier versions stored; BadInput where these have changed."""
    kept = dict(state)
    for name, part in objective.fixed().items():
        own = part.module.state_dict()
        for key in [key for key in kept if key.startswith(f"{name}.")]:
            value = kept.pop(key)
            if not torch.equal(own.get(key.removeprefix(f"{name}."), value), value):
                raise BadInput(
                    f"{where}: {part.reference} is another model than the run began with; bring the former one back, "
                    "or start in another folder with -o"
                )
    return kept


def _find(key: str, ref: str) -> Path:
    try:
        return reach.find_model(ref)
    except InputNotFound as fault:
        raise InputNotFound(f"{key}: {fault}") from fault
