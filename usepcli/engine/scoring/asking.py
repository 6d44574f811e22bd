"""What a model that separates by query is asked for in an item: the queries of the item's row, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usepcli.data.manifest import Row
from usepcli.data.words import fault_of
from usepcli.errors import BadInput

if TYPE_CHECKING:
    from usepcli.models.queried import Model
    from usepcli.separator.separator import Separator


def queries_of(model: Model, row: Row) -> tuple[str, ...]:
    """Return the queries of a row for a model that is asked, () for any other; BadInput where they do not fit."""
    from usepcli.models.queried import QueriedModel

    if not isinstance(model, QueriedModel):
        return ()
    fault = fault_of(row.queries, len(row.sources)) if row.queries else "no queries, and the model separates by query"
    if fault:
        raise BadInput(f"item {row.id}: {fault}; fill in the manifest's column 'queries'")
    return row.queries


def asked(separator: Separator, queries: tuple[str, ...]) -> Separator:
    """Return the separator of these queries, or the same one where there are none."""
    return separator.ask(queries) if queries else separator
