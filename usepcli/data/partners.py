"""Which mixtures may be added up so that nothing is in both of them."""

from __future__ import annotations

from collections.abc import Sequence


def partners(named: Sequence[frozenset[str]], order: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of mixtures that have nothing they are `named` by in common, met in the order of `order`.

    Each takes the first one that is free and fits; who finds no partner is left out.
    """
    free, found = list(order), []
    while free:
        first = free.pop(0)
        other = next((k for k in free if not named[first] & named[k]), None)
        if other is not None:
            free.remove(other)
            found.append((first, other))
    return found
