"""The same outputs of a model under other mixture consistency than its own, scored beside them.

That it helps where it is applied at inference alone is a claim (Postolache et al. 2023), so scores with it and without
stand in one table. The network is asked once; the separated signals are, to the bit, those of a run without this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli import guard
from usepcli.errors import BadInput, UsageError, choices

if TYPE_CHECKING:
    from usepcli.separator.separator import Separator

BOTH = "both"
KINDS = ("none", "uniform", "magsq", "learned")  # those of dsp.consistency, which loads torch
SYSTEM = "consistency "  # begins the system of its rows
_WHEN = {"always": "as in its training", "eval": "in its training there was none"}


def checked(asked: Sequence[str], other: str = "") -> tuple[str, ...]:
    """Return the kinds asked for, each once; UsageError where there is none of that name, or no model.

    other: what is scored in place of a model.
    """
    for name in asked:
        if name not in (*KINDS, BOTH):
            raise UsageError(f"--consistency: {choices('mixture consistency', name, (*KINDS, BOTH))}")
    if asked and other:
        raise UsageError(f"--consistency is a step behind a model's network: it needs a MODEL, not {other}")
    return tuple(dict.fromkeys(asked))


def of_model(asked: Sequence[str], settings: Mapping[str, Any], ref: str) -> tuple[str, ...]:
    """Return the kinds that a model of these settings is scored under; UsageError for weights that it did not learn.

    `both` is with and without: none for a model that has a consistency, uniform for one that has none.
    """
    own = str(settings.get("consistency", "none"))
    other = "uniform" if own == "none" else "none"
    found = tuple(dict.fromkeys(other if name == BOTH else name for name in asked))
    if "learned" in found and own != "learned":
        raise UsageError(
            f"--consistency learned: {ref} was trained with consistency {own} and learned no weights to share by; "
            "choose none, uniform or magsq"
        )
    return found


def meaning(kinds: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Return in words what the rows are, for evaluate.json; '' where no other consistency is asked for."""
    if not kinds:
        return ""
    own, when = str(settings.get("consistency", "none")), str(settings.get("consistency_when", "always"))
    had = own if own == "none" else f"{own}, {_WHEN.get(when, when)}"
    return f"separated: {had}; {', '.join(f'{SYSTEM}{kind}' for kind in kinds)}: the same outputs of the network"


def estimates(
    separator: Separator, kinds: Sequence[str], ask: Callable[[], np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray | str]]:
    """Return what `ask` says (B, ...) of a separator, and per kind what it would say, or why it would not."""
    if not kinds:
        return ask(), {}
    beside: dict[str, np.ndarray | str] = {}
    with _held(separator) as held:
        est = ask()
        for kind in kinds:
            try:
                held.kind = kind
                if kind != "none" and held.ordered and held.n_src == 1:
                    raise BadInput(f"one query and consistency {kind}: the one output would be the whole mixture")
                beside[f"{SYSTEM}{kind}"] = ask()
            except Exception as fault:
                beside[f"{SYSTEM}{kind}"] = guard.reason(fault, kind)
    return est, beside


@contextmanager
def _held(separator: Separator) -> Iterator[Any]:
    from usepcli.models.projected import Projected, ProjectedInOrder

    own = separator.model
    held = (ProjectedInOrder if own.ordered else Projected)(own)  # type: ignore[arg-type]
    separator.model = held
    try:
        yield held
    finally:
        separator.model = own


def of_item(beside: Mapping[str, np.ndarray | str], number: int) -> dict[str, np.ndarray | str]:
    """Return the part of one item of a batch."""
    return {name: est if isinstance(est, str) else est[number] for name, est in beside.items()}
