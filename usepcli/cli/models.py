"""`usep models`: the models in reach."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usepcli.cli import _options as options
from usepcli.errors import UsepError
from usepcli.weights import cards, public, reach

if TYPE_CHECKING:
    from usepcli.weights.cards import Header


# What a list of names does not say; docs/models.md says more.
_RELEASED = (
    "those of usep take two people apart who talk at once;",
    "denoise takes one voice out of the rest, universal sounds of any kind apart, words_small",
    "what words name, each a little; they do not separate music, or more than two talkers",
)


def _row(name: str, path: Path, header: Header, as_json: bool) -> dict[str, Any]:
    card, mbytes = header.card, round(path.stat().st_size / 1e6, 1)
    licence = card.licence or "unstated"
    if as_json:
        return {
            "name": name, "sample_rate": card.sample_rate, "outputs": card.n_src, "parameters": header.n_params,
            "mbytes": mbytes, "licence": licence, "about": card.about, "scores": card.scores, "origin": card.origin,
            "path": str(path),
        }  # fmt: skip
    score = next(filter(None, map(cards.score_value, card.scores)), "none")
    return {
        "name": name, "Hz": card.sample_rate, "outputs": card.n_src or "by query", "MB": mbytes, "score": score,
        "licence": licence, "about": card.about,
    }  # fmt: skip


def _public(as_json: bool) -> list[dict[str, Any]]:
    """Return the lines of the public checkpoints."""
    here, rows = reach.known(), []
    for row in public.rows():
        score = next(iter(row.scores()), {})
        if as_json:
            told = cards.score_sentence(score) if score else ""
            rows.append(asdict(row) | {"command": row.command(), "here": row.name in here, "score": told})
            continue
        rows.append({
            "repo": row.repo, "here": "yes" if row.name in here else "no", "Hz": row.rate, "MB": row.mbytes,
            "score": cards.score_value(score) or "none", "task": row.task,
            "licence": row.licence_weights, "commercial": row.commercial(),
        })  # fmt: skip
    return rows


def models(
    public_ones: Annotated[
        bool, typer.Option("--public", help="List the public checkpoints that usep pull can fetch.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the models in reach, one line each; with --public, what `usep pull` can fetch.

    Those that come with usep, and .safetensors files of usep in ./models, the folders of $USEP_MODELS and the cache
    of `usep pull`. A name that comes with usep always means that model; among the folders the first wins, and what
    stays hidden is told. The licence is that of the training data; the score is the first of the card. `usep info NAME`
    tells everything about one of them, with the data, the protocol and the interval of every score.

    --public lists checkpoints of other makers with the command that fetches each, their licences, and the score that
    the makers published, which usep has not measured; --json has data and protocol of it.

    \b
    Examples:
      usep models
      usep models --public
      usep separate meeting.wav -o separated --model default
    """
    say, rows = options.hushed(quiet), []
    if public_ones:
        options.listing(_public(as_json), as_json, cut=("licence",))
        if not (as_json or quiet):
            options.say("usep: note: fetch one with: usep pull REPO; scores are their makers', not measured by usep")
        return
    for name, paths in reach.known().items():
        try:
            header = cards.read_header(paths[0])
            if header.card.model:  # else a critic, for instance, which a run keeps beside its model
                rows.append(_row(name, paths[0], header, as_json))
        except UsepError as fault:
            say(f"usep: note: left out: {fault}")
        for hidden in paths[1:]:
            say(f"usep: note: {hidden} is hidden by {paths[0]}; use its path")
    options.listing(rows, as_json, cut=("licence", "about"))
    if not (as_json or quiet) and reach.released().keys() & {row["name"] for row in rows}:
        for line in _RELEASED:
            options.say(f"usep: note: {line}")
