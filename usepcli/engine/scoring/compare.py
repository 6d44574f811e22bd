"""An evaluation beside published numbers: those of the table that a profile is to reproduce.

The ledger, published/published.csv, holds one row per number: system, data, condition, metric, protocol, value,
plus_minus, unit, paper, where it stands, and the profile that repeats the training, if there is
one, with what is to be set in it (set).  Metrics bear
usep's names (the papers' SISDR is si-snr).  Numbers meet only where data set, split, rate and protocol are the same.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from usepcli.engine.scoring import assigning, protocols, published
from usepcli.engine.scoring.evaluate import ORACLE, UNPROCESSED
from usepcli.engine.scoring.results import SEPARATED
from usepcli.engine.tables import Scores
from usepcli.errors import BadInput, UsageError, choices
from usepcli.files import read_json

BSS_EVAL = "bss-eval"
LEDGER = Path(__file__).resolve().parents[2] / "published" / "published.csv"
COLUMNS = (
    "metric", "ours", "ci95_low", "ci95_high", "published", "difference", "unit", "system", "condition", "where",
    "note",
)  # fmt: skip
# What the papers call the mixture itself, scored like an estimate.
UNTOUCHED = ("Unprocessed", "the input mixture")
FIGURE_METRIC = "si-snri"
OPTIMAL = "optimal assignment"  # in a condition: that of --assign frame
IDEAL = ("ideal ratio STFT masks", "IRM")


@dataclass(frozen=True)
class PaperSet:
    """How a test set of the ledger looks in prepare.json: corpora that hold it, split, rate in Hz (0: not told), items.

    needs: settings of prepare-data and the values that they have to have; filled: settings that may not be empty.
    made: usep or its user makes the mixtures, so that items differ from those of the paper (items 0: it tells none).
    of: corpora of the set that these are sums of.
    """

    corpora: tuple[str, ...]
    split: str
    sample_rate: int
    items: int
    needs: tuple[tuple[str, Any], ...] = ()
    filled: tuple[str, ...] = ()
    made: bool = False
    of: tuple[str, ...] = ()


_WSJ0 = (("n_src", 2), ("mix", "mix"))
_LIBRI = (("n_src", 2), ("mix", "mix_clean"))
SETS = {
    "AudioCaps 2-mixture test": PaperSet(("mom",), "test", 11025, 0, made=True, of=("audiocaps",)),
    "FUSS dry test": PaperSet(("fuss",), "test", 16000, 1000, (("variant", "dry"),)),
    "FUSS dry validation": PaperSet(("fuss",), "valid", 16000, 1000, (("variant", "dry"),)),
    "FUSS reverberant test": PaperSet(("fuss",), "test", 16000, 1000, (("variant", "reverb"),)),
    "Libri2Mix 16 kHz test": PaperSet(("librimix",), "test", 16000, 3000, _LIBRI),
    "MUSIC 2-source test": PaperSet(("music",), "test", 11025, 0, (("sources", [2, 2]),), made=True),
    "MUSIC 3-source test": PaperSet(("music",), "test", 11025, 0, (("sources", [3, 3]),), made=True),
    "VGGSound 2-source test": PaperSet(("vggsound",), "test", 11025, 0, (("sources", [2, 2]),), made=True),
    "WSJ-mix test": PaperSet(("wsj-mix", "wsjmix"), "test", 8000, 1332, filled=("noise",), made=True),
    "WSJ0-2mix 16 kHz test": PaperSet(("wsj0-mix",), "test", 16000, 3000, _WSJ0),
    "WSJ0-2mix 8 kHz test": PaperSet(("wsj0-mix",), "test", 8000, 3000, _WSJ0),
    "WSJ0-2mix 8 kHz validation": PaperSet(("wsj0-mix",), "valid", 8000, 5000, _WSJ0),
    "WSJ0-2mix validation": PaperSet(("wsj0-mix",), "valid", 0, 5000, _WSJ0),
}


@cache
def ledger() -> tuple[Mapping[str, str], ...]:
    """Return every published number as text by column."""
    with open(LEDGER, encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def profiles() -> list[str]:
    """Return the profiles that have published numbers."""
    return sorted({row["profile"] for row in ledger() if row["profile"] and not row["set"]})


def compare(record: Mapping[str, Any], profile_name: str, only: Sequence[str] = ()) -> list[Scores]:
    """Return one row of COLUMNS per number published for a profile on the data of an evaluation.

    ours, its interval and difference are nan for what was not scored; the mixture as every estimate comes last.
    record: what evaluate.json holds.  only: filters (engine/scoring/published.py).  UsageError for a profile without
    published numbers, another protocol or no metric in common; BadInput where the data are not those of the paper.
    """
    # Rows without a protocol tell of the network, its size and stride: nothing that is scored.
    named = [row for row in ledger() if row["profile"] == profile_name and not row["set"] and row["protocol"]]
    if not named:
        raise UsageError(choices("profile with published numbers", profile_name, profiles()))
    about, made = _data(record)
    places = list(dict.fromkeys(row["data"] for row in named))
    reasons = {place: _unlike(place, record, about, made) for place in places}
    same = [place for place, reason in reasons.items() if not reason]
    if not same:
        listed = "; ".join(f"{place}: {reason}" for place, reason in reasons.items())
        raise BadInput(f"{about['manifest']}: not the data of {profile_name}'s published numbers ({listed})")
    rows = [row for row in named if row["data"] in same]
    _refuse_protocol(record, rows, profile_name)
    rows = _so_assigned(record, rows, profile_name)
    rows = _so_known(record, rows, profile_name)
    rows = published.kept(rows, only, ledger())
    if not rows:
        raise UsageError(f"{profile_name}: nothing that was published passes --only {' --only '.join(only)}")
    tables = {(row["paper"], row["where"], row["data"], row["condition"]) for row in rows}
    beside = [row for row in ledger() if _beside(row, tables)]
    alone = all(row.get("system", SEPARATED) != SEPARATED for row in record.get("summary") or [])
    found = [] if alone else _rows(record, rows, made)  # oracles and the mixture alone
    for system, names in ((UNPROCESSED, UNTOUCHED), (f"{ORACLE}irm", IDEAL)):
        found += _rows(record, [row for row in beside if row["system"] in names], made, system)
    if not found:
        raise UsageError(f"{profile_name}: no number is published for {' or '.join(map(str, UNTOUCHED + IDEAL))}")
    return found


def _data(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return what a record says of its data, and the prepare.json beside its manifest."""
    about = record.get("data")
    if not about:
        raise UsageError("separated files do not tell which test set they are of: score a model on a prepared --data")
    path = Path(about["manifest"]).parent / "prepare.json"
    try:
        made = read_json(path)
    except FileNotFoundError as fault:
        raise BadInput(
            f"{path}: no such file, so the test set of {about['manifest']} is unknown; make it with usep prepare-data"
        ) from fault
    except ValueError as fault:
        raise BadInput(f"{path}: not JSON ({fault}); run usep prepare-data again") from fault
    if not isinstance(made, dict):
        raise BadInput(f"{path}: expected a JSON object; run usep prepare-data again")
    return about, made


def _unlike(place: str, record: Mapping[str, Any], about: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Return why the scored data are not the test set called `place`, '' if they are."""
    wanted, settings = SETS.get(place), made.get("settings") or {}
    if wanted is None:
        return "usep cannot prepare it, the paper does not say how it was made"
    corpus, rate, limit = made.get("corpus", ""), about.get("sample_rate"), (record.get("settings") or {}).get("limit")
    if corpus not in wanted.corpora:
        return f"corpus {wanted.corpora[0]} was expected, this is {corpus or 'unnamed'}"
    if about.get("split") != wanted.split:
        return f"split {wanted.split} was expected, this is {about.get('split') or 'unnamed'}"
    if wanted.sample_rate and rate != wanted.sample_rate:
        return f"{wanted.sample_rate} Hz were expected, this was scored at {rate} Hz"
    for key, value in wanted.needs:
        if settings.get(key) != value:
            return f"{key} {value} was expected, prepare-data had {settings.get(key)}"
    if wanted.of and (found := _made_of(made)) not in wanted.of:
        return f"sums of corpus {wanted.of[0]} were expected, these are of {found or 'an unnamed one'}"
    empty = next((key for key in wanted.filled if key in settings and not settings[key]), "")
    if empty:
        return f"made without {empty}"
    if limit or (not wanted.made and record.get("items") != wanted.items):
        return f"{wanted.items} items were expected, {record.get('items')} were scored"
    return ""


def _made_of(made: Mapping[str, Any]) -> str:
    """Return the corpus of the prepared set whose items were added up."""
    place = Path(str(made.get("source") or ""))
    try:
        found = read_json((place if place.is_dir() else place.parent) / "prepare.json")
    except (OSError, ValueError):
        return ""
    return str(found.get("corpus", "")) if isinstance(found, dict) else ""


def _same(published: str, protocol: str) -> bool:
    """Whether scores of a protocol are of the kind that was published: BSS-eval version 3 is what sdr, sir, sar are."""
    return published == protocol or (protocol == protocols.OWN and published == BSS_EVAL)


def _refuse_protocol(record: Mapping[str, Any], rows: Sequence[Mapping[str, str]], profile: str) -> None:
    ours = _protocol(record)
    theirs = sorted({row["protocol"] for row in rows})
    if any(_same(name, ours) for name in theirs):
        return
    plain = any(_same(name, protocols.OWN) for name in theirs)
    how = "leave --protocol away" if plain else f"score with --protocol {theirs[0]}"
    raise UsageError(f"{profile}: published by protocol {' and '.join(theirs)}, this was scored by {ours}; {how}")


def _so_assigned(record: Mapping[str, Any], rows: Sequence[Mapping[str, str]], profile: str) -> list[Mapping[str, str]]:
    """Return the rows whose outputs were assigned as ours; UsageError where there is none.

    What papers call the default is one permutation of a whole item.
    """
    ours = (record.get("protocol") or {}).get(assigning.COLUMN) or assigning.DEFAULT
    optimal = ours == assigning.FRAME
    found = [row for row in rows if (OPTIMAL in row["condition"]) == optimal]
    if not found:
        other = assigning.DEFAULT if optimal else assigning.FRAME
        raise UsageError(
            f"{profile}: published with --assign {other}, this was scored with {ours}; score with --assign {other}"
        )
    return found


def _so_known(record: Mapping[str, Any], rows: Sequence[Mapping[str, str]], profile: str) -> list[Mapping[str, str]]:
    """Return the rows whose talkers are known to the model or not as ours are; UsageError where there is none.

    Sets whose items do not tell are what their papers say of them, so that their split decides.
    """
    told = (record.get("data") or {}).get("conditions") or []
    if not told:
        return list(rows)
    found = [row for row in rows if (named := published.facts(row, ()).condition) == "" or [named] == told]
    if not found:
        raise UsageError(f"{profile}: published for talkers of another condition than {' and '.join(told)}")
    return found


def points(record: Mapping[str, Any], only: Sequence[str] = (), metric: str = FIGURE_METRIC) -> list[published.Point]:
    """Return what is published in a metric on the data of an evaluation, by its protocol and assignment."""
    about, made = _data(record)
    rows = [row for row in ledger() if row["metric"] == metric and _same(row["protocol"], _protocol(record))]
    same = {place for place in {row["data"] for row in rows} if not _unlike(place, record, about, made)}
    rows = [row for row in rows if row["data"] in same and row["system"] not in UNTOUCHED]
    if rows:
        rows = _so_known(record, _so_assigned(record, rows, metric), metric)
    return published.points(published.kept(rows, only, ledger()), ledger())


def _protocol(record: Mapping[str, Any]) -> str:
    return str((record.get("protocol") or {}).get("name") or protocols.OWN)


def _beside(row: Mapping[str, str], tables: Iterable[tuple[str, str, str, str]]) -> bool:
    """Whether a row stands in one of the tables, under the same condition or under none."""
    return any(
        (row["paper"], row["where"], row["data"]) == table[:3] and row["condition"] in ("", table[3])
        for table in tables
    )


def _rows(
    record: Mapping[str, Any], told: Sequence[Mapping[str, str]], made: Mapping[str, Any], system: str = ""
) -> list[Scores]:
    """Return the rows of one system: the model, or one beside it whose name begins so (those that were scored)."""
    # Summary rows of the model carry a system only where others stand beside it.
    summary = [(row.get("system", SEPARATED), row) for row in record.get("summary") or []]
    own = [row for name, row in summary if (name.startswith(system) if system else name == SEPARATED)]
    ours = {row["metric"]: row for row in own}
    protocol = _protocol(record)
    found = [ours.get(row["metric"], {}) if _same(row["protocol"], protocol) else {} for row in told]
    if system:
        pairs = [(row, value) for row, value in zip(told, found, strict=True) if value]
    elif not any(value.get("mean") is not None for value in found):
        wanted = dict.fromkeys(row["metric"] for row in told if _same(row["protocol"], protocols.OWN))
        asked = " ".join(f"--metric {name}" for name in wanted)
        raise UsageError(f"nothing that was published is among the scores: score again with {asked or 'more items'}")
    else:
        pairs = list(zip(told, found, strict=True))
    return [_row(row, value, _note(row, record, value, made)) for row, value in pairs]


def _row(row: Mapping[str, str], found: Mapping[str, Any], note: str) -> Scores:
    """Return one row of COLUMNS from a row of the ledger and one of the summary, {} where that has none."""
    mean, low, high = (
        math.nan if found.get(key) is None else float(found[key]) for key in ("mean", "ci95_low", "ci95_high")
    )
    value = float(row["value"])
    return {
        "metric": row["metric"], "ours": mean, "ci95_low": low, "ci95_high": high, "published": value,
        "difference": mean - value, "unit": row["unit"], "system": row["system"], "condition": row["condition"],
        "where": f"{row['paper']}, {row['where']}", "note": note,
    }  # fmt: skip


def _note(row: Mapping[str, str], record: Mapping[str, Any], found: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Return what a reader has to know of one comparison."""
    notes, wanted, protocol = [], SETS[row["data"]], _protocol(record)
    if not _same(row["protocol"], protocol):
        notes.append(f"published by {row['protocol']}, this was scored by {protocol}: not comparable")
    elif not found:
        notes.append("not scored")
    if wanted.made:
        there = f", {wanted.items} there" if wanted.items else "; the paper does not tell how many"
        notes.append(f"regenerated: other mixtures than the paper's, {record.get('items')} here{there}")
    if not wanted.sample_rate:
        notes.append("the paper does not tell the rate")
    if not wanted.made and "length" in (made.get("settings") or {}):
        notes.append(f"the paper does not tell the length, here it is {made['settings']['length']}")
    return "; ".join(notes)
