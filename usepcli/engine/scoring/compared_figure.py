"""The figure of `usep evaluate --compare`: scores over what they take, published ones and ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from usepcli.engine.scoring import published
from usepcli.errors import OutputError, UsageError
from usepcli.files import show
from usepcli.versions import need

SUFFIXES = (".png", ".svg")


def check(figure: Path | None, profile: str, only: Sequence[str], overwrite: bool) -> None:
    """UsageError or OutputError for a figure or filters that cannot be, before anything is scored."""
    published.filters(only)
    if (figure or only) and not profile:
        raise UsageError(f"{'--figure' if figure else '--only'} is of published numbers: name a profile with --compare")
    if figure is None:
        return
    if figure.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--figure: found '{figure}'; expected a name that ends in {' or '.join(SUFFIXES)}")
    if figure.exists() and not overwrite:
        raise OutputError(f"{show(figure)}: exists; choose another --figure, or pass --overwrite")
    need("the figure of --compare", "plot")


def draw(figure: Path, record: Mapping[str, Any], only: Sequence[str]) -> None:
    """Draw the scores published on the data of an evaluation, and its own, over parameters and over arithmetic.

    UsageError where ours is not known in the metric of the figure.
    """
    from usepcli.engine.scoring import compare
    from usepcli.engine.scoring.results import SEPARATED
    from usepcli.report import scatter
    from usepcli.weights import cards

    metric, model = compare.FIGURE_METRIC, record.get("model")
    summary = [row for row in record.get("summary") or [] if row.get("system", SEPARATED) == SEPARATED]
    ours = next((row["mean"] for row in summary if row["metric"] == metric and row["mean"] is not None), None)
    if ours is None or not model:
        raise UsageError(f"--figure shows {metric} of a MODEL: score one with --metric {metric}")
    header = cards.read_header(Path(model["path"]))
    cost, name = cards.cost(header.card), f"{header.card.name or model['ref']} (ours)"
    points = compare.points(record, only)
    sized = [(one.name, one.parameters, one.score, False) for one in points if one.parameters]
    sized.append((name, header.n_params / 1e6, float(ours), True))
    counted = [(one.name, one.gflop, one.score, False) for one in points if one.gflop]
    counted += [(name, cost.flops_per_second / 1e9, float(ours), True)] if cost else []
    where = ", ".join(dict.fromkeys(one.data for one in points)) or str((record.get("data") or {}).get("manifest"))
    panels = [
        ("parameters (millions), as published", sized),
        ("GFLOP per second of audio, counted on usep's models of the profiles", counted),
    ]
    title = f"{where}: published scores, and ours (star)" + f"; only {', '.join(only)}" * bool(only)
    scatter.over_cost(panels, figure, y_label=f"{metric} (dB)", title=title)
