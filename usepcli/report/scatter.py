"""Two scores of the same examples against each other.  Needs matplotlib, the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


OURS, OTHERS = "#d55e00", "#59616b"


def over_cost(
    panels: Sequence[tuple[str, Sequence[tuple[str, float, float, bool]]]], out: str | Path, *, y_label: str, title: str
) -> Path:
    """Draw scores over what they take: per panel its label and (name, cost, score, ours) points, costs by decades.

    Ours are marked; a panel without points says so. MissingDependency without matplotlib, UsageError for another
    suffix.
    """
    need("the figure of --compare", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(5.6 * len(panels), 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (label, points) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        axis.set_xscale("log")
        for _, cost, score, ours in sorted(points, key=lambda point: point[3]):
            axis.plot(
                cost,
                score,
                "*" if ours else "o",
                color=OURS if ours else OTHERS,
                markersize=15 if ours else 5,
                zorder=3,
            )
        axis.grid(color="0.9", linewidth=0.6, which="both")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.margins(x=0.25, y=0.08)
        axis.set_xlabel(label)
        if not points:
            axis.text(0.5, 0.5, "not known of any", transform=axis.transAxes, ha="center", color=OTHERS)
    figure.axes[0].set_ylabel(y_label)
    figure.suptitle(title, fontsize="small", x=0.01, ha="left")
    figure.draw_without_rendering()  # so that the places of the dots are known
    for axis, (_, points) in zip(figure.axes, panels, strict=True):
        _name(figure, axis, points)
    return save(figure, out)


# Where a name may stand from its point, in points of print: beside it, above or below it.
_PLACES = (
    (7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top"),
    (7, 7, "left", "bottom"), (7, -7, "left", "top"), (-7, 7, "right", "bottom"), (-7, -7, "right", "top"),
    (7, 14, "left", "bottom"), (7, -14, "left", "top"),
)  # fmt: skip


def _name(figure: Any, axis: Any, points: Sequence[tuple[str, float, float, bool]]) -> None:
    """Write each name where it covers no dot and no other name, ours first; where there is no such place, beside it."""
    from matplotlib.transforms import Bbox

    together: dict[tuple[float, float, bool], list[str]] = {}  # dots on the very same place have one label
    for name, *where in points:
        together.setdefault(tuple(where), []).append(name)  # type: ignore[arg-type]
    points = [(", ".join(dict.fromkeys(names)), *where) for where, names in together.items()]
    renderer = figure.canvas.get_renderer()
    inside = axis.get_window_extent(renderer)
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in (axis.transData.transform(p[1:3]) for p in points)]
    for name, x, y, ours in sorted(points, key=lambda point: not point[3]):
        best: Any = None
        for right, up, across, along in _PLACES:
            text = axis.annotate(
                name, (x, y), (right * (1 + 0.6 * ours), up), textcoords="offset points", ha=across, va=along,
                fontsize="x-small", color=OURS if ours else "0.2", weight="bold" if ours else "normal",
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            covered = sum(box.overlaps(other) for other in taken)
            covered += 2 * (box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1)
            if best is None or covered < best[0]:
                if best:
                    best[1].remove()
                best = covered, text, box
            else:
                text.remove()
            if not best[0]:
                break
        taken.append(best[2])
