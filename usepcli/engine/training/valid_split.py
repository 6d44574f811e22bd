"""What a run validates on, and which score chooses its weights.

Metrics compare with references and exist where the manifest lists sources.  The scores of mixtures alone
(scoring/momi.py, training/health.py) exist for every split; where one of them chooses, no source is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from usepcli import registry
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import momi
from usepcli.errors import ConfigError
from usepcli.metrics.momi import MAX_OUTPUTS
from usepcli.profile.schema import BLIND, Valid

# Every run forms the same sums of mixtures, so that runs with other seeds can be compared.
MOM_SEED = 0


class Split(NamedTuple):
    """The rows with sources, all rows up to valid.limit, pairs of the latter, and the mixtures of those pairs."""

    where: str
    references: Manifest | None
    mixtures: Manifest | None
    pairs: list[tuple[int, int]]
    single: Manifest | None


class Choice(NamedTuple):
    """The score that chooses ('': the latest weights count as best), metrics beside it, and what to say of both."""

    metric: str
    also: list[str]
    notes: list[str]


def read(profile: Any, n_src: int) -> Split:
    """Return what the profile's validation split offers a model with n_src outputs."""
    data, valid = profile.data, profile.valid
    if not data.manifest:
        return Split("the profile, data.manifest is empty", None, None, [], None)
    rows = Manifest.read(data.manifest).split(data.valid_split)
    mixtures = rows.rows[: valid.limit] if valid.limit else rows.rows
    n_items = len(mixtures) if valid.mom_pairs else 0
    pairs = momi.mom_pairs(n_items if n_src <= MAX_OUTPUTS else 0, valid.mom_pairs, MOM_SEED)
    # Where no sums can be formed, as many mixtures as would have been in them.
    chosen = sorted(i for pair in pairs for i in pair) or range(min(n_items, 2 * valid.mom_pairs))

    def of(some: Sequence[Row]) -> Manifest | None:
        return Manifest(list(some), rows.root, rows.path) if some else None

    where = f"split '{data.valid_split}' of {data.manifest}"
    known = [row for row in rows.rows if row.sources]
    return Split(where, of(known), of(mixtures), pairs, of([mixtures[i] for i in chosen]))


def choose(profile: Any, split: Split, n_src: int) -> Choice:
    """Return the score that chooses among the weights; ConfigError where the split lacks what valid.metric needs.

    Only the default metric gives way to momi, and a note says so.
    """
    metric, notes = profile.valid.metric, list[str]()
    if metric in BLIND:
        _check_blind(metric, split, n_src)
    elif split.references is None:
        metric = _without_references(profile, split, n_src)
        notes.append(
            f"no sources are listed in {split.where}: momi, which needs none, chooses the weights in place of "
            f"{profile.valid.metric}"
            if metric
            else f"nothing to validate on in {split.where}: the latest weights are kept"
        )
    also = [name for name in dict.fromkeys(profile.valid.also) if name != metric and name not in BLIND]
    if also and split.references is None:
        notes.append(f"valid.also: no sources are listed in {split.where}: {', '.join(also)} not scored")
        also = []
    return Choice(metric, also, notes)


def _without_references(profile: Any, split: Split, n_src: int) -> str:
    metric = profile.valid.metric
    if profile.data.manifest and "sources" in registry.load("objective", profile.objective["name"]).needs:
        raise ConfigError(
            f"data.valid_split: no row of {split.where} lists sources; name a split with some, or set valid.metric to "
            "momi, which needs none"
        )
    if split.mixtures is not None and metric != Valid().metric:
        raise ConfigError(
            f"valid.metric: {metric} compares with sources and no row of {split.where} lists any; choose one of "
            f"{', '.join(sorted(BLIND))}"
        )
    return "momi" if split.pairs and n_src > 1 else ""


def _check_blind(metric: str, split: Split, n_src: int) -> None:
    missing = ""
    if split.single is None:
        missing = f"no mixture in {split.where}, or valid.mom_pairs is 0"
    elif metric == "momi" and not split.pairs:
        missing = (
            f"{len(split.single)} mixtures and {n_src} outputs; expected two mixtures at least and at most "
            f"{MAX_OUTPUTS} outputs"
        )
    elif metric != "teacher_agreement" and n_src < 2:
        missing = "a model with one output; expected two at least"
    if missing:
        raise ConfigError(f"valid.metric: {metric} cannot be had: found {missing}")
