"""What a training needs to know in words, and whether its data say it of every item."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from usepcli.data.lazy import counts, given, hollow
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row
from usepcli.errors import ConfigError

# Fields of a batch, and of a manifest's row, that say what is heard: words, and who speaks when.
FIELDS = ("queries", "caption", "phrases", "label", "text", "activity")


def needed(needs: Iterable[str]) -> list[str]:
    """Return those of an objective's needs that are words."""
    return [name for name in FIELDS if name in needs]


def check_manifest(manifest: Manifest, needs: Collection[str]) -> None:
    """ConfigError for the first row that lacks words that are needed, or has other than one query per source."""
    for name in needed(needs):
        bare = np.flatnonzero(~_has(manifest.rows, name))
        if len(bare):
            item = manifest.rows[int(bare[0])].id
            raise ConfigError(
                f"{manifest.path}: the objective reads {name} and item {item} has none; fill in the column '{name}', "
                "or choose an objective that does not read it"
            )
    for i in _odd(manifest.rows).tolist() if "queries" in needs else ():
        row = manifest.rows[i]
        if fault := fault_of(row.queries, len(row.sources)):
            raise ConfigError(f"{manifest.path}: item {row.id}: {fault}; see `usep prepare-data --check`")


def check_pools(pools: Sequence[Pool], needs: Collection[str]) -> None:
    """ConfigError where mixtures made of these pools would lack words that are needed."""
    for name in needed(needs):
        if name != "queries":
            raise ConfigError(f"data.mixing: dynamic, and the objective reads {name}, which only fixed mixtures have")
        for pool in pools:
            bare = np.flatnonzero(~given(pool.rows, "query"))
            if len(bare):
                item = pool.rows[int(bare[0])].id
                raise ConfigError(
                    f"{pool.path}: the objective reads queries and {item} has none; fill in the column 'query'"
                )


def said(rows: Sequence[Row] | Sequence[PoolRow], needs: Collection[str]) -> dict[str, str]:
    """Return all different words that a model is asked by, where `needs` names them, and the first item of each."""
    asked, found = {"queries", "caption", "phrases"} & {*needs}, dict[str, str]()
    for row in rows:
        for text in _asked(row, asked):
            if text not in found:
                found[text] = row.id
    return found


def _asked(row: Row | PoolRow, needs: Collection[str]) -> Iterable[str]:
    if isinstance(row, PoolRow):
        return [row.query] if "queries" in needs and row.query else []
    texts = [*(row.queries if "queries" in needs else ()), *(text for text, _ in row.phrases if "phrases" in needs)]
    return [*texts, row.caption] if "caption" in needs and row.caption else texts


def _has(rows: Sequence[Row], name: str) -> np.ndarray:
    return counts(rows, name) > 0 if name in ("queries", "phrases") else given(rows, name)


def _odd(rows: Sequence[Row]) -> np.ndarray:
    """Return the places of rows whose queries may be other than one for each source, none of them empty."""
    sources, queries = counts(rows, "sources"), counts(rows, "queries")
    return np.union1d(np.flatnonzero((sources > 0) & (queries != sources)), hollow(rows, "queries"))


def fault_of(queries: Sequence[str], n_sources: int) -> str:
    """Say what is wrong with the queries of an item with n_sources sources (0: it lists none), '' where all is well."""
    if n_sources and len(queries) != n_sources:
        return f"{len(queries)} queries for {n_sources} sources; expected one for each, joined by ';'"
    if not all(query.strip() for query in queries):
        return f"query {next(k for k, query in enumerate(queries, 1) if not query.strip())} is empty"
    return ""
