"""`usep models`: the models in reach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.cli import _options as options
from usepcli.errors import UsepError

if TYPE_CHECKING:
    from usepcli.weights.cards import Header


def _score(scores: list[dict[str, Any]]) -> str:
    """Return the first score of a card on one line: metric, value, interval, protocol and data."""
    if not scores:
        return "none"
    first = scores[0]
    interval = "[{}, {}] ".format(*first["ci95"]) if first.get("ci95") else ""
    how = "; ".join(filter(None, (first.get("protocol"), first.get("data"))))
    return f"{first.get('metric', '')} {first.get('value', '')} {interval}({how})"


def _row(name: str, path: Path, header: Header, as_json: bool) -> dict[str, Any]:
    card = header.card
    row = {
        "name": name,
        "sample_rate": card.sample_rate,
        "outputs": card.n_src,
        "parameters": header.n_numbers,
        "mbytes": round(path.stat().st_size / 1e6, 1),
        "licence": card.licence or "unstated",
    }
    if as_json:
        return row | {"about": card.about, "scores": card.scores, "origin": card.origin, "path": str(path)}
    return row | {"about": card.about, "score": _score(card.scores)}


def models(as_json: options.Json = False) -> None:
    """List the models in reach, one line each.

    Those that come with usep, and .safetensors files of usep in ./models, the folders of $USEP_MODELS and the cache
    of `usep pull`. A name that comes with usep always means that model; among the folders the first wins, and what
    stays hidden is told. The licence is that of the training data; the score is the first of the card, with its 95 %
    interval, protocol and data. `usep info NAME` tells everything about one of them.

    \b
    Examples:
      usep models
      usep separate meeting.wav -o separated --model default
    """
    from usepcli.weights import cards, reach

    rows = []
    for name, paths in reach.known().items():
        try:
            header = cards.read_header(paths[0])
            if header.card.model:  # else a critic, for instance, which a run keeps beside its model
                rows.append(_row(name, paths[0], header, as_json))
        except UsepError as fault:
            options.say(f"usep: note: left out: {fault}")
        for hidden in paths[1:]:
            options.say(f"usep: note: {hidden} is hidden by {paths[0]}; use its path")
    options.listing(rows, as_json)
