"""The tables of `usep evaluate`: scores, counts, MoMi, spreads, differences; into Results, and onto the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from usepcli.cli import _options as options
from usepcli.cli._evaluate_jobs import Asked, Job, Rows
from usepcli.errors import UsageError, UsepError

if TYPE_CHECKING:
    from usepcli.engine.scoring.protocols import Protocol
    from usepcli.engine.scoring.results import Results
    from usepcli.engine.scoring.versus import Evaluation


def conventions(asked: Asked, protocol: Protocol | None, ordered: bool = False) -> dict[str, Any]:
    """Return what the numbers of this evaluation mean, for evaluate.json; ordered: of estimates that were asked for."""
    from usepcli.engine.scoring import protocols, scoring

    found: dict[str, Any]
    if protocol:
        found = {"name": protocol.name, **protocol.lines()}
    else:
        said = {name: scoring.convention(name) for name in asked.metrics}
        found = {"name": protocols.OWN, **scoring.CONVENTIONS, "metrics": said}
    if ordered:
        found["assignment"] = scoring.ASKED
    if "momi" in asked.metric:
        from usepcli.engine.scoring import mom_scores

        found["momi"] = mom_scores.NOTES
    return found


def add_items(found: Results, job: Job, asked: Asked, protocol: Protocol | None) -> Rows:
    """Score the items, fill in their tables and the summary, and return the rows of the separated signals."""
    from usepcli.engine.scoring import fuss_scores, results, scoring
    from usepcli.engine.scoring.evaluate import UNPROCESSED

    every = job.run(_tracker(asked.quiet))
    rows = [row for row in every if "system" not in row]
    untouched = [row for row in every if row.get("system") == UNPROCESSED]
    if protocol:
        columns = list(fuss_scores.ITEM_COLUMNS)
        found.summary += fuss_scores.summary(rows, protocol)
        below = fuss_scores.summary(untouched, protocol, rates=False) if untouched else []
        table = fuss_scores.confusion(rows)
        found.tables[results.CONFUSION] = (table, list(table[0]))
        found.facts |= {"confusion": results.strict(table), "skipped": fuss_scores.skipped(rows)}
        found.facts["capped"] = fuss_scores.capped(rows, protocol)
    else:
        columns = ["id", "source", "n_src", *asked.metrics, "reason"]
        found.summary += scoring.summary(rows, asked.metrics)
        below = scoring.summary(untouched, asked.metrics) if untouched else []
    found.tables[results.ITEMS] = (rows, columns)
    if untouched:
        found.tables[results.UNTOUCHED] = (untouched, columns)
        found.summary = [{"system": "separated", **row} for row in found.summary]
        found.summary += [{"system": UNPROCESSED, **row} for row in below]
    return rows


def add_moms(found: Results, job: Job, asked: Asked, out: Path) -> None:
    """Score sums of two mixtures."""
    from dataclasses import replace

    from usepcli.engine.scoring import mom_scores, results

    if job.net is None or job.manifest is None:  # check() has refused files
        raise UsageError("--metric momi needs a MODEL")
    manifest = replace(job.manifest, rows=job.manifest.rows[: asked.limit or None])
    sums = min(asked.mom_pairs, len(manifest) // 2)
    asked.say(f"momi: {sums} sums of two of {len(manifest)} mixtures, drawn with seed {asked.seed}")
    rows, summary, facts = mom_scores.score(job.net, manifest, asked.mom_pairs, asked.seed, job.device)
    why = mom_scores.draw(rows, facts, out)
    if why:
        asked.say(f"no picture of momi against msi: {why}")
    found.facts["momi"] = results.strict(facts) | {"picture": "" if why else results.PICTURES[0]}
    found.tables[results.MOMS] = (rows, list(mom_scores.COLUMNS))
    several = any("system" in row for row in found.summary)
    found.summary += [{"system": "separated", **row} if several else row for row in summary]


def add_comparisons(found: Results, job: Job, asked: Asked, rows: Rows, others: Sequence[Evaluation]) -> None:
    """Compare with earlier evaluations (--versus), and tell how the scores spread (--stats, --by)."""
    from usepcli.engine.scoring import conditions, results, versus

    ours, scores = versus.columns(rows, found.conventions)
    if others:
        table = [row for other in others for row in versus.differences(ours, scores, other, asked.seed)]
        found.tables[results.VERSUS] = (table, list(versus.COLUMNS))
        found.facts["versus"] = {"rows": results.strict(table), "seed": asked.seed, "notes": versus.NOTES}
    if not (asked.stats or asked.by):
        return
    spreads: Rows = []
    if others and asked.stats:
        runs = {str(other.place): versus.columns(other.rows, found.conventions)[0] for other in others}
        spreads += conditions.spreads("run", {"this": ours, **runs}, scores)
    if asked.by or not others:
        by = asked.by or ("k" if found.conventions.get("paper") else "n_src")
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
    of = {row.id: getattr(row, by) for row in job.manifest.rows}
    return {(item, ""): ";".join(value) if isinstance(value, tuple) else str(value) for item, value in of.items()}


def add_published(found: Results, record: dict[str, Any], folder: Path, asked: Asked) -> UsepError | None:
    """Write the published numbers beside these; return why there is no comparison, None where there is one."""
    from usepcli.engine import tables
    from usepcli.engine.scoring import compare, results

    try:
        rows = compare.compare(record, asked.compare)
    except UsepError as fault:
        return fault
    found.tables[results.COMPARED] = (rows, list(compare.COLUMNS))
    tables.write_csv(folder / results.COMPARED, rows, compare.COLUMNS)
    record["compare"] = results.strict(rows)
    return None


def announce(protocol: Protocol, asked: Asked) -> None:
    """Say on stderr by which conventions the scores are made."""
    asked.say(f"protocol: {protocol.name}")
    for key, line in protocol.lines().items():
        asked.say(f"  {key}: {line}")


def show(record: dict[str, Any], found: Results, folder: Path, asked: Asked) -> None:
    """Print the tables on stdout, or evaluate.json with --json, and notes on stderr."""
    from usepcli.engine import tables
    from usepcli.engine.scoring import conditions, fuss_scores, results, versus

    for reason, count in record["reasons"].items():
        asked.say(f"{count} of {record['rows']} rows: {reason}")
    if record.get("skipped"):
        asked.say(f"{record['skipped']} items: no sounding reference, no part in any score")
    if record.get("capped"):
        asked.say(f"{record['capped']} scores above {fuss_scores.CAPPED_DB:g} dB: the protocol's eps ends them at 80")
    if asked.as_json:
        options.report({**record, "out": str(folder)}, True)
    else:
        typer.echo(tables.render(found.summary, found.columns()))
        shown: dict[str, Sequence[str]] = {
            results.CONFUSION: (), results.STATS: conditions.COLUMNS, results.VERSUS: versus.COLUMNS,
            results.COMPARED: (),
        }  # fmt: skip
        for name, columns in shown.items():
            if name in found.tables and found.tables[name][0]:
                typer.echo("\n" + tables.render(found.tables[name][0], columns))
    moms = record.get("momi", {})
    if "pearson" in moms:
        asked.say(
            f"momi against msi, {moms['n']} sums: {_coefficient(moms, 'pearson')}, {_coefficient(moms, 'spearman')}"
        )
    if results.ITEMS in found.tables:
        asked.say(f"{record['items']} items, {record['rows']} sources; written: {folder}")
    else:
        asked.say(f"written: {folder}")


def _coefficient(facts: dict[str, Any], name: str) -> str:
    return f"{name.capitalize()} {'-' if facts[name] is None else format(facts[name], '.2f')}"


def _tracker(quiet: bool) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    from usepcli.report.progress import progress

    return lambda items, total: progress(items, total, desc="scoring", unit="item", quiet=quiet)
