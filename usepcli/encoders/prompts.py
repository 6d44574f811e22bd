"""Learned prompts: vectors in the place of "The sound of", before the words that a text tower reads (CoOp).

    q = "the sound of a dog"        read as        <s> v_1 ... v_n a dog </s>        with v in R^(n x D), one for all q

Zhou et al., "Learning to prompt for vision-language models", IJCV 2022; for sounds Mahmud et al. 2024, Table 13. The
tower stays as it is. The vectors stand in the file of the model that learned them (objectives/prompt_tuning.py), and
from there go before the words of any other model, and of a judge, of the same tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from usepcli.encoders.base import Condition, Conditioner
from usepcli.encoders.templates import bare
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.files import parse_json, show

_KEY = "conditioner.context"  # of the vectors among a model's tensors
_SPREAD = 0.02  # of the first vectors, about that of a tower's words


class Context(NamedTuple):
    """Learned vectors (n, D), and the sha256 of the tower that they were learned with."""

    vectors: Tensor
    sha256: str


class Prompted(Conditioner):
    """A tower whose words stand behind `context`: vectors of a file, which stay as they are, or new ones that learn."""

    stored = True  # the vectors; the tower is known by its path and its sha256
    tower: Conditioner

    def __init__(self, tower: Conditioner, held: nn.Module, count: int, path: str = "") -> None:
        """Take the tower, the same as a part that is stored nowhere, the number of vectors, and the file they lie in.

        count 0: as many as the file has. The file of a tower that is still closed, of a stored model, is not read: its
        vectors come with the model. Errors as of `context_of`; ConfigError for another number or width.
        """
        super().__init__(tower.path, tower.phrases, tower.token_dim, tower.pooled_dim, tower.sha256)
        # As `held` it has no parameters of its own; the bare one is kept past nn.Module, which would store it.
        object.__setattr__(self, "tower", tower)
        self.held, self.name, self.length = held, tower.name, tower.length  # type: ignore[misc]
        if path and not tower.closed:
            vectors = fitting(path, tower, count)
        else:
            vectors = _SPREAD * torch.randn(count, tower.token_dim)
        tower.room(len(vectors))
        self.context = nn.Parameter(vectors, requires_grad=not path)
        self.register_load_state_dict_post_hook(_forget)

    @property
    def classes(self) -> tuple[str, ...]:
        """The closed list of the tower."""
        return self.tower.classes

    @property
    def vectors(self) -> int:
        """How many vectors stand before the words."""
        return len(self.context)

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return the conditions of phrases behind the vectors, to which alone a gradient goes."""
        return self.tower.behind(self.context, [bare(phrase) for phrase in phrases])

    def hear(self, waves: Tensor, rate: int) -> Condition:
        """Return the conditions of clips (Q, T) at `rate` Hz, as the tower hears them."""
        return self.tower.hear(waves, rate)

    def encode(self, phrases: Sequence[str]) -> Condition:
        """Return the conditions of Q phrases; remembered where the vectors do not learn. BadInput as of any other."""
        self.check(phrases)
        return self.read(phrases) if self.context.requires_grad else self.remembered(phrases)

    def settled(self) -> dict[str, Any]:
        """Return the arguments of the tower."""
        return self.tower.settled()


def _forget(module: Any, keys: Any) -> None:
    module.forget()  # what was read behind other vectors


def context_of(path: str) -> Context:
    """Return the vectors that a model file, or the best of a run folder, holds.

    InputNotFound, or BadInput where it is no such file.
    """
    where = Path(path).expanduser()
    where = where / "best.safetensors" if where.is_dir() else where
    if not where.is_file():
        raise InputNotFound(f"{show(where)}: no such file; expected a model or a run of objective prompt_tuning")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(where, framework="pt") as file:
            said = parse_json((file.metadata() or {})["usep"])["model"]
            vectors, sha256 = file.get_tensor(_KEY).float(), str(said["conditioner_sha256"])
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as fault:
        told = " ".join(str(fault).split())[:120]
        raise BadInput(
            f"{show(where)}: holds no learned prompts ({told}); expected a model or a run of objective prompt_tuning"
        ) from fault
    if vectors.ndim != 2 or not vectors.numel() or not vectors.isfinite().all():
        raise BadInput(f"{show(where)}: prompts of shape {tuple(vectors.shape)}, or not finite; learn them again")
    return Context(vectors, sha256)


def fitting(path: str, tower: Any, count: int = 0, key: str = "model.prompts") -> Tensor:
    """Return the vectors in a file for this tower; ConfigError where they are of another, or not `count` (0: any)."""
    vectors, sha256 = context_of(path)
    if sha256 != tower.sha256:
        raise ConfigError(
            f"{key}: {show(path)} was learned with a tower of sha256 {sha256[:12]}, and {tower.reference} has "
            f"{tower.sha256[:12]}; name the one that it was learned with"
        )
    if count not in (0, len(vectors)):
        raise ConfigError(
            f"model.context: found {count}, and {show(path)} holds {len(vectors)} vectors; leave it out or set it to "
            f"{len(vectors)}"
        )
    return vectors
