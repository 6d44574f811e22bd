"""`usep models`: the models in reach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.cli import _options as options
from usepcli.errors import UsepError
from usepcli.weights import cards, reach

if TYPE_CHECKING:
    from usepcli.weights.cards import Header


# What a list of names does not say; docs/models.md says more.
_RELEASED = (
    "those that come with usep take two people apart who talk at once, up to 4 kHz;",
    "they do not separate music, the sounds of a street, or more than two talkers",
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


def models(as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the models in reach, one line each.

    Those that come with usep, and .safetensors files of usep in ./models, the folders of $USEP_MODELS and the cache
    of `usep pull`. A name that comes with usep always means that model; among the folders the first wins, and what
    stays hidden is told. The licence is that of the training data; the score is the first of the card. `usep info NAME`
    tells everything about one of them, with the data, the protocol and the interval of every score.

    \b
    Examples:
      usep models
      usep separate meeting.wav -o separated --model default
    """
    say, rows = options.hushed(quiet), []
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
