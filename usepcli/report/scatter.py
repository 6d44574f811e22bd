"""Two scores of the same examples against each other.  Needs matplotlib, the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from usepcli.report.plots import save
from usepcli.versions import need

DOT = "#1f5f99"


def scatter(
    x: Sequence[float], y: Sequence[float], out: str | Path, *more: str | Path, x_label: str, y_label: str,
    title: str = "",
) -> Path:  # fmt: skip
    """Draw one dot per pair of x (n,) and y (n,), as PNG or SVG; return the first path.

    MissingDependency without matplotlib, UsageError for another suffix.
    """
    need("the scatter picture", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    # A thousand dots lie on top of each other: the darkness shows how many.
    axis.plot(x, y, "o", color=DOT, markersize=4, alpha=0.45, markeredgewidth=0)
    axis.grid(color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.set_title(title, fontsize="small", loc="left")
    return save(figure, out, *more)
