"""`usep models`: the released models."""

from __future__ import annotations

from typing import Any

from usepcli.cli import _options as options


def _score(scores: list[dict[str, Any]]) -> str:
    """Return the first score of a card on one line: value, metric and where it was measured."""
    if not scores:
        return ""
    first = scores[0]
    return f"{first.get('value', '')} {first.get('metric', '')} ({first.get('data', '')})"


def models(as_json: options.Json = False) -> None:
    """List the released models that come with usep.

    One line each: name, sample rate in Hz, outputs, parameters, first score of its card, licence of the
    training data. `usep info NAME` tells everything about one of them.

    \b
    Examples:
      usep models
      usep separate meeting.wav -o separated --model default
    """
    from usepcli.engine import build, checkpoint

    rows = []
    for name, path in checkpoint.released().items():
        card, _ = checkpoint.read_card(path)
        row = {
            "name": name,
            "sample_rate": card.sample_rate,
            "outputs": card.n_src,
            "parameters": build.model(card.model).n_params,
        }
        if as_json:
            rest = {"scores": card.scores, "licence": card.licence, "about": card.about, "path": str(path)}
        else:
            rest = {"score": _score(card.scores), "licence": card.licence}
        rows.append(row | rest)
    options.listing(rows, as_json)
