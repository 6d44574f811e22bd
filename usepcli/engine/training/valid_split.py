"""What a run validates on, and which score chooses its weights.

Metrics compare with references and exist where the manifest lists sources.  The scores of mixtures alone
(scoring/momi.py, training/health.py) exist for every split; where one of them chooses, no source is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from usepcli import guard, registry
from usepcli.data import audit_sets, lazy, manifest
from usepcli.data.crops import cut_up
from usepcli.data.items import Reader
from usepcli.data.manifest import Manifest, Pool, Row
from usepcli.data.shots import few
from usepcli.engine.scoring import momi
from usepcli.engine.scoring.asking import queries_of
from usepcli.errors import BadInput, ConfigError
from usepcli.metrics.momi import MAX_OUTPUTS
from usepcli.models.audio_text import AudioText
from usepcli.models.queried import Model, QueriedModel
from usepcli.profile.schema import BLIND, JUDGED, Valid

# Every run forms the same sums of mixtures, so that runs with other seeds can be compared.
MOM_SEED = 0


class Split(NamedTuple):
    """The rows with sources, all rows up to valid.limit, pairs of the latter, and the mixtures of those pairs.

    asked: all rows up to valid.limit, which a model that is asked is calibrated on.
    n_out: the model's outputs, or the fewest queries of a mixture for a model that is asked.
    """

    where: str
    references: Manifest | None
    mixtures: Manifest | None
    pairs: list[tuple[int, int]]
    single: Manifest | None
    n_out: int
    asked: Manifest | None = None


class Choice(NamedTuple):
    """The score that chooses ('': the latest weights count as best), metrics beside it, and what to say of both."""

    metric: str
    also: list[str]
    notes: list[str]


def read(profile: Any, model: Model) -> Split:
    """Return what the profile's validation split offers a model; ConfigError for one that is asked and no queries."""
    data, valid = profile.data, profile.valid
    if not data.manifest:
        return Split("the profile, data.manifest is empty", None, None, [], None, model.n_src)
    rows = Manifest.read(data.manifest).split(data.valid_split)
    where = f"split '{data.valid_split}' of {data.manifest}"
    if data.shots and data.valid_split == data.train_split:
        rows = rows.some(np.setdiff1d(np.arange(len(rows)), few(rows.rows, data.shots, profile.seed)))
        where = f"what data.shots {data.shots} leave of {where}"
    n_out, most = _outputs(model, rows.rows, where)
    mixtures = whole = _heard_once(rows.rows[: valid.limit] if valid.limit else rows.rows)
    if data.crops != "one" and valid.mom_pairs:
        # A few long recordings hold many sums of two mixtures; one alone holds one.
        mixtures = cut_up(mixtures, 2 * valid.mom_pairs, valid.mom_seconds)
    n_items = len(mixtures) if valid.mom_pairs else 0
    pairs = momi.mom_pairs(n_items if most <= MAX_OUTPUTS else 0, valid.mom_pairs, MOM_SEED)
    # Where no sums can be formed, as many mixtures as would have been in them.
    chosen = sorted(i for pair in pairs for i in pair) or range(min(n_items, 2 * valid.mom_pairs))

    def of(some: Sequence[Row]) -> Manifest | None:
        return Manifest(some, rows.root, rows.path) if some else None

    known = lazy.some(rows.rows, np.flatnonzero(lazy.counts(rows.rows, "sources")))
    return Split(
        where, of(known), of(mixtures), pairs, of(lazy.some(mixtures, np.array(chosen, int))), n_out, of(whole)
    )


def _heard_once(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows without those of a recording that came before under another caption.

    No recording is added to itself.
    """
    if not lazy.given(rows, "caption").any():
        return rows
    places: dict[tuple[str, tuple[str, ...], int | None], int] = {}
    for i, row in enumerate(rows):
        places.setdefault((row.mixture, row.sources, row.start), i)
    return lazy.some(rows, np.array([*places.values()], int))


def _outputs(model: Model, rows: Sequence[Row], where: str) -> tuple[int, int]:
    """Return the least number of outputs for a mixture and the largest for a sum of two.

    A model that is asked has as many as there are queries.
    """
    if model.n_src or not rows:
        return model.n_src, model.n_src
    try:
        counts = [len(queries_of(model, row)) for row in rows]
        _hears(model, rows)
    except BadInput as fault:
        raise ConfigError(f"data.valid_split: {where}: {fault}") from fault
    return min(counts), 2 * max(counts)


def _hears(model: Model, rows: Sequence[Row]) -> None:
    """Raise BadInput for the first query that a model with a list of phrases or words has none of."""
    if isinstance(model, QueriedModel) and model.settled().get("classes"):
        for query, name in {query: row.id for row in reversed(rows) for query in row.queries}.items():
            try:
                model.encode([query])
            except BadInput as fault:
                raise BadInput(f"item {name}: {fault}") from fault


def settle(profile: Any, model: Model) -> tuple[Split, Choice]:
    """Return what a run validates on and what chooses its weights; errors of `read`, `choose` and `check_sounding`."""
    split = read(profile, model)
    choice = choose(profile, split)
    _check_kind(choice, isinstance(model, AudioText))
    check_sounding(split, choice.metric, model.sample_rate, profile.valid.limit, profile.data.channels)
    return split, choice


def _check_kind(choice: Choice, hears: bool) -> None:
    """ConfigError for scores of separators of a model that separates nothing, and the other way round."""
    for key, name in (("metric", choice.metric), *(("also", name) for name in choice.also)):
        if name and hears != (name in JUDGED):
            known = ", ".join(JUDGED) if hears else "one that compares estimates with references, or momi"
            what = "separates nothing, it hears and reads" if hears else "separates, it is no judge"
            raise ConfigError(f"valid.{key}: {name}, and the model {what}; expected {known}")


def choose(profile: Any, split: Split) -> Choice:
    """Return the score that chooses among the weights; ConfigError where the split lacks what valid.metric needs.

    Only the default metric gives way to momi, and a note says so.
    """
    metric, notes = profile.valid.metric, list[str]()
    if own := registry.load("objective", profile.objective["name"]).own:
        return _own(profile, split, *own)
    if metric in BLIND:
        _check_blind(metric, split)
    elif split.references is None:
        metric = _without_references(profile, split)
        notes.append(
            f"no sources are listed in {split.where}: momi, which needs none, chooses the weights in place of "
            f"{profile.valid.metric}"
            if metric
            else f"nothing to validate on in {split.where}: the latest weights are kept"
        )
    if twice := split.references and manifest.twice(split.references.rows[: profile.valid.limit or None]):
        notes.append(f"warning: {twice} stands twice in {split.where}, and counts twice in its scores")
    also = [name for name in dict.fromkeys(profile.valid.also) if name != metric and name not in BLIND]
    if also and split.references is None:
        notes.append(f"valid.also: no sources are listed in {split.where}: {', '.join(also)} not scored")
        also = []
    return Choice(metric, also, notes)


def _own(profile: Any, split: Split, name: str, *beside: str) -> Choice:
    """Return the choice by what an objective measures itself; ConfigError where another score is asked for."""
    valid, objective = profile.valid, profile.objective["name"]
    if valid.metric != Valid().metric or valid.also:
        key, found = ("also", ", ".join(valid.also)) if valid.also else ("metric", valid.metric)
        raise ConfigError(f"valid.{key}: found {found}; objective {objective} is validated by {name}: leave it out")
    if split.mixtures is None:
        return Choice("", [], [f"nothing to validate on in {split.where}: the latest weights are kept"])
    return Choice(name, [*beside], [])


def check_sounding(split: Split, metric: str, rate: int, limit: int = 0, channels: str = "mix") -> None:
    """Raise BadInput where `metric` has nothing to hear: every mixture, or every source of every item, is silent.

    Better before a training than after it. The first of at most `limit` items (0: all) that sounds ends the search, or
    one that cannot be read, which the validation tells.
    """
    blind = metric not in registry.METRICS
    table = split.references if not blind else split.single if metric in BLIND else split.mixtures
    if table is None:
        return
    reader, rows = Reader(table, rate, channels=channels), table.rows[:limit] if limit else table.rows
    for row in rows:
        try:
            item = reader.whole(row, not blind)
        except Exception as error:
            guard.fault(error, row.id)
            return
        if (item.mix if item.sources is None else item.sources).any():
            return
    what = "mixtures" if blind else "sources"
    raise BadInput(
        f"data.valid_split: the {what} of all {len(rows)} items of {split.where} are silent, the first of them "
        f"{rows[0].id}; {metric} can choose nothing there: mend them, or name another split"
    )


def _without_references(profile: Any, split: Split) -> str:
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
    return "momi" if split.pairs and split.n_out > 1 else ""


def _check_blind(metric: str, split: Split) -> None:
    missing = ""
    if split.single is None:
        missing = f"no mixture in {split.where}, or valid.mom_pairs is 0"
    elif metric == "momi" and not split.pairs:
        missing = (
            f"{len(split.single)} mixtures and {split.n_out} outputs; expected two mixtures at least and at most "
            f"{MAX_OUTPUTS} outputs"
        )
    elif metric != "teacher_agreement" and split.n_out < 2:
        missing = "a model with one output; expected two at least"
    if missing:
        raise ConfigError(
            f"valid.metric: {metric} cannot be had: found {missing}; prepare the recordings again, which splits few or "
            "long ones by time, add some to the split, or name another with data.valid_split"
        )


def known_voices(profile: Any) -> list[str]:
    """Return a warning where talkers of the pools that mixtures are drawn from speak in the validation split, too."""
    data = profile.data
    if data.mixing != "dynamic" or not data.manifest:
        return []
    pools = [Pool.read(path).split(data.train_split) for path in data.pool]
    pool = [(name, "pool") for one in pools for name in lazy.names(one.rows, "speaker")[0]]
    rows = Manifest.read(data.manifest).split(data.valid_split).rows
    found = audit_sets.known_voices(pool, [(name, "valid") for row in rows for name in row.speakers])
    if not found:
        return []
    return [
        f"warning: {len(found)} talkers of data.pool speak in the validation split, too, e.g. '{min(found)}': its "
        "scores are of voices that training knows"
    ]
