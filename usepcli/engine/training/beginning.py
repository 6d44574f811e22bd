"""What a run begins with that was trained before: the student's first weights, and a stored teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.models.queried import Model
from usepcli.objectives.base import Objective
from usepcli.weights import fitting, reach, store


def first_weights(profile: Any, student: Model) -> None:
    """Load the weights of `init_from`, if any, into the student; InputNotFound or BadInput name the key."""
    if profile.init_from:
        weights = _find("init_from", profile.init_from)
        fitting.load_into(student, store.read_weights(weights), f"init_from: {weights}")


def teacher(profile: Any, objective: Objective) -> None:
    """Let the model of `objective.teacher_model`, if any, teach; ConfigError where nothing trained would teach."""
    if where := profile.objective.get("teacher_model", ""):
        path = _find("objective.teacher_model", where)
        try:
            model, _ = store.load_model(path)
        except BadInput as fault:
            raise BadInput(f"objective.teacher_model: {fault}") from fault
        objective.set_teacher(model)
    elif objective.trained_teacher and not profile.init_from:
        raise ConfigError(
            "objective.teacher_model: empty, so that an untrained network would teach; "
            "name a trained model: a run folder, a .safetensors file or a released name"
        )


def _find(key: str, ref: str) -> Path:
    try:
        return reach.find_model(ref)
    except InputNotFound as fault:
        raise InputNotFound(f"{key}: {fault}") from fault
