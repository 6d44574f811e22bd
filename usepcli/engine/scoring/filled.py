"""The tables of an evaluation, filled one by one: scores, counts, MoMi, spreads, differences, published numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine.scoring.jobs import Job, Means, Measures, Rows
from usepcli.errors import UsageError

if TYPE_CHECKING:
    from usepcli.engine.journal import Part
    from usepcli.engine.scoring.protocols import Protocol
    from usepcli.engine.scoring.results import Results
    from usepcli.engine.scoring.versus import Evaluation


_MADE = "the masks are made from the references and scale the mixture's spectrum"


def conventions(
    wanted: Measures, ordered: bool = False, channels: str = "each", consistency: str = ""
) -> dict[str, Any]:
    """Return what the numbers of this evaluation mean, for evaluate.json; ordered: of estimates that were asked for.

    consistency: what the rows under other mixture consistency are, in words.
    """
    from usepcli.engine.scoring import assigning, protocols, scoring
    from usepcli.engine.scoring import channels as joined

    found: dict[str, Any]
    if protocol := wanted.protocol:
        found = {"name": protocol.name, **protocol.lines()}
    else:
        said = {name: scoring.convention(name) for name in wanted.metrics}
        found = {"name": protocols.OWN, **scoring.CONVENTIONS, "metrics": said}
    if ordered:
        found["assignment"] = scoring.ASKED
    if wanted.assign:
        found[assigning.COLUMN] = wanted.assign.kind
        found["assignment"] = wanted.assign.meaning() or found["assignment"]
    if oracles := [*([wanted.subject] if wanted.subject else []), *wanted.oracles]:
        found["oracles"] = f"{', '.join(map(str, oracles))}: mask, window and hop in samples (Hann); {_MADE}"
    if consistency:
        found["consistency"] = consistency
    together = wanted.protocol is not None and channels == "each"
    found["channels"] = joined.JOINED if together else joined.MEANT[channels]
    if "presence" in wanted.asked:
        from usepcli.engine.scoring import asking

        found["presence"] = asking.NOTES
    if "momi" in wanted.asked:
        from usepcli.engine.scoring import mom_scores

        found["momi"] = mom_scores.NOTES
    return found


def score_items(job: Job, part: Part, quiet: bool) -> Rows:
    """Score the items that are ours and not done, and return the rows of all that are there."""
    return job.run(_tracker(quiet), part)


def add_items(found: Results, every: Rows, wanted: Measures, means: Means) -> Rows:
    """Fill in the tables of the items and the summary, and return the rows of the separated signals."""
    from usepcli.engine.scoring import assigning, channels, fuss_scores, results, scoring
    from usepcli.engine.scoring.consistencies import SYSTEM
    from usepcli.engine.scoring.evaluate import ORACLE, UNPROCESSED

    rows = [row for row in every if "system" not in row]
    beside = [row for row in every if "system" in row]
    untouched = [row for row in beside if row["system"] == UNPROCESSED]
    oracles = [row for row in beside if row["system"].startswith(ORACLE)]
    projected = [row for row in beside if row["system"].startswith(SYSTEM)]
    plain = [row for row in beside if row["system"] == assigning.SYSTEM]
    if protocol := wanted.protocol:
        columns = list(fuss_scores.ITEM_COLUMNS)
        whole = partial(fuss_scores.summary, protocol=protocol)
        summary = partial(whole, rates=False)
        table = fuss_scores.confusion(rows)
        found.tables[results.CONFUSION] = (table, list(table[0]))
        found.facts |= {"confusion": results.strict(table), "skipped": fuss_scores.skipped(rows)}
        found.facts["capped"] = fuss_scores.capped(rows, protocol)
    else:
        columns = ["id", "source", "n_src", *wanted.more, *wanted.metrics, "reason"]
        columns[3:3] = [assigning.COLUMN] * bool(wanted.assign)
        whole = summary = partial(scoring.summary, metrics=wanted.metrics)
    found.summary += whole(rows)
    found.facts["channels"] = channels.counted(rows, means.channels)
    if found.facts["channels"]["most"] > 1:
        columns.insert(3, "channels")
        for row in every:
            row.setdefault("channels", "" if row["reason"].startswith((scoring.FAILED, scoring.NO_ESTIMATE)) else 1)
        means.say(channels.line(found.facts["channels"]["most"], bool(protocol)))
    found.tables[results.ITEMS] = (rows, columns)
    if beside:
        own = [{"system": wanted.label, **row} for row in found.summary]
        own += [
            *_by_system(plain, whole),
            *_by_system(projected, whole),
        ]  # what adds up has other outputs that are not quiet
        above = _by_system(oracles, summary)
        above = [*own, *above] if wanted.subject else [*above, *own]
        found.summary = [*above, *_by_system(untouched, summary)]
    if untouched:
        found.tables[results.UNTOUCHED] = (untouched, columns)
    if wanted.assign:
        found.summary = assigning.label(found.summary, wanted.assign)
    for name, table in ((results.ORACLES, oracles), (results.PROJECTED, projected), (results.ASSIGNED, plain)):
        if table:
            found.tables[name] = (table, ["system", *columns])
    return rows


def _by_system(rows: Rows, summary: Callable[[Rows], Rows]) -> Rows:
    """Return the summaries of the systems beside the separated signals, one after the other."""
    systems = dict.fromkeys(row["system"] for row in rows)
    return [
        {"system": system, **line} for system in systems for line in summary([r for r in rows if r["system"] == system])
    ]


def failures(
    rows: Rows, sums: Rows, unheard: Rows, items: str = "items.csv", unasked: Rows | None = None
) -> list[str]:  # fmt: skip
    """Return what could not be scored, separated or read: how many items, or sums of two, and why the first could not.

    unheard: items whose words, or files for Kaldi, are missing.  items: the file in which the others are.  unasked:
    items that could not be asked what they hold.
    """
    from usepcli.engine.scoring import results, scoring

    found = []
    if failed := scoring.failures(rows):
        first = next(row["reason"] for row in rows if row["id"] == failed[0])
        found.append(
            f"{len(failed)} of {len({row['id'] for row in rows})} items have no scores, e.g. {failed[0]}: "
            f"{first.removeprefix(scoring.FAILED)}; all of them are in {items}"
        )
    if sums:
        found.append(
            f"{len(sums)} sums of two mixtures have no score, e.g. {sums[0]['id']}: {sums[0]['reason']}; all of them "
            f"are in {results.MOMS}"
        )
    if unasked:
        found.append(
            f"{len(unasked)} items were not asked what they hold, e.g. {unasked[0]['id']}: {unasked[0]['reason']}; all "
            f"of them are in {results.PRESENCE}"
        )
    if unheard:
        found.append(
            f"{len(unheard)} items have no words or files for Kaldi, e.g. {unheard[0]['id']}: {unheard[0]['reason']}"
        )
    return found


def score_moms(job: Job, means: Means, part: Part, pairs: int, seed: int) -> Rows:
    """Score the sums of two mixtures that are ours and not done, and return the rows of all that are there."""
    from dataclasses import replace

    from usepcli.engine.scoring import mom_scores, momi

    if job.manifest is None:  # separated files have been refused
        raise UsageError("--metric momi needs a MODEL")
    manifest = replace(job.manifest, rows=job.manifest.rows[: means.limit or None])
    drawn = mom_scores.drawn(manifest, pairs, seed)
    means.say(f"momi: {len(drawn)} sums of two of {len(manifest)} mixtures, drawn with seed {seed}")
    if part.left(len(drawn)):
        job.open()
        assert job.net is not None
        momi.score_moms(job.net, manifest, drawn, device=job.device, channels=means.channels, part=part)
    return momi.in_order(part)


def add_moms(found: Results, rows: Rows, means: Means, seed: int, out: Path) -> Rows:
    """Fill in the table of sums of two mixtures; return the rows of those that could not be read."""
    from usepcli.engine.scoring import channels, mom_scores, results

    summary, facts = mom_scores.told(rows, seed)
    why = mom_scores.draw(rows, facts, out)
    if why:
        means.say(f"no picture of momi against msi: {why}")
    found.facts["momi"] = results.strict(facts) | {"picture": "" if why else results.PICTURES[0]}
    lost = [row for row in rows if "reason" in row]
    more = [name for name in ("channels", "reason") if any(name in row for row in rows)]
    found.tables[results.MOMS] = (rows, [*mom_scores.COLUMNS, *more])
    if "channels" in more and "channels" not in found.facts:
        found.facts["channels"] = channels.counted(rows, means.channels)
        means.say(channels.line(found.facts["channels"]["most"]))
    several = any("system" in row for row in found.summary)
    found.summary += [{"system": results.SEPARATED, **row} if several else row for row in summary]
    return lost


def score_presence(job: Job, means: Means, part: Part, seed: int, quiet: bool) -> Rows:
    """Ask the items that are ours and not done for what they hold and for what they do not; return all rows there."""
    from dataclasses import replace

    from usepcli.engine.scoring import asking
    from usepcli.separator.borrowing import borrowed
    from usepcli.weights import cards

    if job.manifest is None:  # separated files have been refused
        raise UsageError("--metric presence needs a MODEL")
    manifest = replace(job.manifest, rows=job.manifest.rows[: means.limit or None])
    if not part.left(len(manifest)):
        return [row for rows in part.values() for row in rows]
    job.open()
    assert job.net is not None
    with borrowed(job.net, job.device) as separator:
        separator.card = cards.read_card(Path(job.facts["model"]["path"]))[0]
        return asking.ask_all(
            separator, manifest, seed=seed, channels=means.channels, part=part, track=_tracker(quiet)
        )  # fmt: skip


def add_presence(found: Results, rows: Rows, seed: int) -> Rows:
    """Fill in the table of queries, there and absent; return the rows of items that could not be asked."""
    from usepcli.engine.scoring import asking, results

    found.tables[results.PRESENCE] = (rows, list(asking.COLUMNS))
    found.facts["presence"] = {"seed": seed}
    several = any("system" in row for row in found.summary)
    found.summary += [{"system": results.SEPARATED, **row} if several else row for row in asking.told(rows)]
    return [row for row in rows if row["reason"]]


def add_comparisons(
    found: Results, job: Job, rows: Rows, others: Sequence[Evaluation], stats: bool, by: str, seed: int
) -> None:
    """Compare with earlier evaluations (--versus), and tell how the scores spread (--stats, --by)."""
    from usepcli.engine.scoring import conditions, results, versus

    ours, scores = versus.columns(rows, found.conventions)
    if others:
        table = [row for other in others for row in versus.differences(ours, scores, other, seed)]
        found.tables[results.VERSUS] = (table, list(versus.COLUMNS))
        found.facts["versus"] = {"rows": results.strict(table), "seed": seed, "notes": versus.NOTES}
    if not (stats or by):
        return
    spreads: Rows = []
    if others and stats:
        runs = {str(other.place): versus.columns(other.rows, found.conventions)[0] for other in others}
        spreads += conditions.spreads("run", {"this": ours, **runs}, scores)
    if by or not others:
        by = by or ("k" if found.conventions.get("paper") else "n_src")
        spreads += conditions.spreads(by, conditions.split_by(ours, _labels(by, job, rows)), scores)
    found.tables[results.STATS] = (spreads, list(conditions.COLUMNS))
    found.facts["stats"] = {"rows": results.strict(spreads), "notes": conditions.NOTES}


def _labels(by: str, job: Job, rows: Rows) -> dict[tuple[str, str], str]:
    """Return the condition of each row by a column of the items, else of the manifest."""
    if by == "source":
        return {(row["id"], row["source"]): row["source"] for row in rows}
    if by in rows[0]:
        return {(row["id"], ""): str(row[by]) for row in rows}
    if job.manifest is None:
        raise UsageError(f"--by {by} is a column of manifests; separated files have n_src and source")
    if by == "query":
        return {(row.id, f"s{k}"): query for row in job.manifest.rows for k, query in enumerate(row.queries, 1)}
    of = {row.id: getattr(row, by) for row in job.manifest.rows}
    return {(item, ""): ";".join(value) if isinstance(value, tuple) else str(value) for item, value in of.items()}


def add_published(found: Results, record: dict[str, Any], profile: str, only: Sequence[str] = ()) -> None:
    """Put the published numbers beside these; UsageError or BadInput where they cannot be compared."""
    from usepcli.engine.scoring import compare, results

    rows = compare.compare(record, profile, only)
    found.tables[results.COMPARED] = (rows, list(compare.COLUMNS))
    record["compare"] = results.strict(rows)


def announce(protocol: Protocol, say: Callable[[str], None]) -> None:
    """Say by which conventions the scores are made."""
    say(f"protocol: {protocol.name}")
    for key, line in protocol.lines().items():
        say(f"  {key}: {line}")


def _tracker(quiet: bool) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    from usepcli.report.progress import progress

    return lambda items, total: progress(items, total, desc="scoring", unit="item", quiet=quiet)
