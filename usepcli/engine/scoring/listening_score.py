"""What the answers of a listening test come to, given its key.

which, words: correct (the answer names the reference that the estimate was made for), wrong (the other one), both,
neither (called none), in % of the answers.  preference: the share that chose a system, of those who chose at all, and
the two-sided binomial test against chance.  Intervals are Wilson's (1927), 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from usepcli.engine import tables
from usepcli.engine.scoring.listening import KEY, KEY_COLUMNS, PREFERENCE, WHICH, WORDS
from usepcli.engine.tables import Scores
from usepcli.errors import BadInput, InputNotFound, OutputError, did_you_mean
from usepcli.report.listening import ANSWERS

TABLE = "listening.csv"
ALL = "all"
ANSWER_COLUMNS = ("test", "listener", "trial", "answer")
OUTCOMES = ("correct", "wrong", "both", "none")
COLUMNS = (
    "kind", "listener", "system", "outcome", "count", "n", "percent", "ci95_low", "ci95_high", "ties", "p_binomial",
)  # fmt: skip
NOTES = {
    "percent": "which, words: of the answers; preference: of the answers that chose one of both, ties apart",
    "interval": "95 %, Wilson 1927; every answer counts as independent, also those of one listener",
    "p_binomial": "two-sided exact binomial test of the preferences against one half",
}


class Answer(NamedTuple):
    """One answer and the trial that it belongs to, as a row of the key."""

    listener: str
    answer: str
    trial: Mapping[str, str]


def find_key(answers: Sequence[Path], key: Path | None = None) -> Path:
    """Return the key: the file or folder named, else key.csv beside the first answers; InputNotFound."""
    if key is not None:
        return key / KEY if key.is_dir() else key
    beside = (answers[0] if answers[0].is_dir() else answers[0].parent) / KEY
    if not beside.is_file():
        raise InputNotFound(f"{beside}: no key beside the answers; name it with --key TEST/{KEY}")
    return beside


def read_key(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a key by trial; BadInput where it is none or was cut short."""
    rows = tables.read_csv(path, own=True)
    if not rows or not set(KEY_COLUMNS) <= set(rows[0]):
        raise BadInput(f"{path}: no key of a listening test; expected columns {','.join(KEY_COLUMNS)} and rows")
    return {row["trial"]: row for row in rows}


def read_answers(places: Sequence[Path], key: Mapping[str, Mapping[str, str]]) -> list[Answer]:
    """Return the answers of files, or of all answers*.csv in folders, by the key that they belong to.

    BadInput for another test's answers, unknown trials or answers, and for a trial answered twice by one listener.
    """
    found: list[Answer] = []
    seen: dict[tuple[str, str], str] = {}
    for path in _files(places):
        for number, row in enumerate(_rows(path), 2):
            where = f"{path}:{number}"
            if not row["answer"]:
                continue
            answer = _answer(where, path, row, key)
            again = seen.setdefault((answer.listener, row["trial"]), where)
            if again != where:
                raise BadInput(
                    f"{where}: {answer.listener} answered trial {row['trial']} before, in {again}; give each "
                    "listener's file once, and listeners different names"
                )
            found.append(answer)
    if not found:
        raise BadInput(f"{', '.join(map(str, places))}: no answers in it; save them with the button on the page")
    return found


def _files(places: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for place in places:
        inside = sorted(place.glob("answers*.csv")) if place.is_dir() else [place]
        if not inside:
            raise InputNotFound(f"{place}: no answers*.csv in it")
        files += inside
    return list({path.resolve(): path for path in files}.values())  # a folder and a file in it: once


def _rows(path: Path) -> list[dict[str, str]]:
    rows = tables.read_csv(path)
    missing = [name for name in ANSWER_COLUMNS if rows and name not in rows[0]]
    if missing:
        near = did_you_mean(missing[0], [str(name) for name in rows[0]])
        raise BadInput(f"{path}: no column '{missing[0]}'{near}; expected the CSV that the page of the test saves")
    return rows


def _answer(where: str, path: Path, row: Mapping[str, str], key: Mapping[str, Mapping[str, str]]) -> Answer:
    test = next(iter(key.values()))["test"]
    if row["test"] != test:
        raise BadInput(f"{where}: answers to test {row['test']}, but the key is that of {test}; name its own --key")
    trial = key.get(row["trial"])
    if trial is None:
        raise BadInput(f"{where}: trial '{row['trial']}' is not in the key; was the file edited, or the test remade?")
    known = ANSWERS[trial["kind"]]
    if row["answer"] not in known:
        near = did_you_mean(row["answer"], known)
        raise BadInput(f"{where}: unknown answer '{row['answer']}'{near}; choose from: {', '.join(known)}")
    return Answer(row["listener"] or path.stem, row["answer"], trial)


def score(answers: Sequence[Answer]) -> list[Scores]:
    """Return the rows of listening.csv: all listeners together, then each of them where there are several."""
    listeners = sorted({answer.listener for answer in answers})
    rows = _score(answers, ALL if len(listeners) > 1 else listeners[0])
    for listener in listeners if len(listeners) > 1 else ():
        rows += _score([answer for answer in answers if answer.listener == listener], listener)
    return rows


def _score(answers: Sequence[Answer], listener: str) -> list[Scores]:
    rows: list[Scores] = []
    for kind in (WHICH, WORDS):
        which = [answer for answer in answers if answer.trial["kind"] == kind]
        for system in dict.fromkeys(sorted(answer.trial["system"] for answer in which)):
            outcomes = [outcome(answer) for answer in which if answer.trial["system"] == system]
            for name in OUTCOMES:
                share = _share(outcomes.count(name), len(outcomes))
                rows.append({"kind": kind, "listener": listener, "system": system, "outcome": name, **share})
    chosen = [answer for answer in answers if answer.trial["kind"] == PREFERENCE]
    return rows + (_preferences(chosen, listener) if chosen else [])


def outcome(answer: Answer) -> str:
    """Return what an answer to `which` or `words` comes to: correct, wrong, both or none."""
    if answer.answer in ("A", "B"):
        return "correct" if answer.trial[answer.answer.lower()] == answer.trial["source"] else "wrong"
    return "both" if answer.answer == "both" else "none"


def _preferences(answers: Sequence[Answer], listener: str) -> list[Scores]:
    from scipy.stats import binomtest

    votes = [answer.trial[answer.answer.lower()] for answer in answers if answer.answer in ("A", "B")]
    ties = len(answers) - len(votes)
    rows: list[Scores] = []
    for system in sorted({answer.trial[letter] for answer in answers for letter in ("a", "b")}):
        count = votes.count(system)
        row = {"kind": PREFERENCE, "listener": listener, "system": system, "outcome": "preferred"}
        p = float(binomtest(count, len(votes)).pvalue) if votes else math.nan
        rows.append({**row, **_share(count, len(votes)), "ties": ties, "p_binomial": p})
    return rows


def _share(count: int, n: int) -> Scores:
    from scipy.stats import binomtest

    if not n:
        return {"count": count, "n": n, "percent": math.nan, "ci95_low": math.nan, "ci95_high": math.nan}
    low, high = binomtest(count, n).proportion_ci(0.95, method="wilson")
    ends = {"ci95_low": 100 * float(low), "ci95_high": 100 * float(high)}
    return {"count": count, "n": n, "percent": 100 * count / n, **ends}


def shown(rows: Iterable[Scores]) -> list[list[Scores]]:
    """Return the tables for the screen, one per kind: one line per listener and system, intervals in brackets."""
    found: dict[str, dict[tuple[str, str], Scores]] = {}
    for row in rows:
        lines = found.setdefault(row["kind"], {})
        line = lines.setdefault(
            (row["listener"], row["system"]), {"listener": row["listener"], "system": row["system"], "n": row["n"]}
        )
        line[f"{row['outcome']} %"] = _bracketed(row)
        if row["kind"] == PREFERENCE:
            line |= {"ties": row["ties"], "p": f"{row['p_binomial']:.3g}" if row["n"] else "-"}
    return [list(lines.values()) for lines in found.values()]


def _bracketed(row: Scores) -> str:
    return f"{row['percent']:.1f} [{row['ci95_low']:.1f}, {row['ci95_high']:.1f}]" if row["n"] else "-"


def write(folder: Path, rows: Sequence[Scores], overwrite: bool = False) -> Path:
    """Write listening.csv into a folder; OutputError if it is there."""
    path = folder / TABLE
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another folder with -o, or --overwrite")
    tables.write_csv(path, rows, COLUMNS)
    return path
