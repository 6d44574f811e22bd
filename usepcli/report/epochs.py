"""Scores over the epochs, a panel for each beside the others, a line for each training.  Needs matplotlib.

So it shows what one number hides: SAR, which is high for a mixture left as it is, falls while a network begins to
separate and comes back later (Mahmud et al. 2024, figure 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from usepcli.errors import BadInput
from usepcli.report.pictures import SOURCES
from usepcli.report.plots import DECIBEL, columns, save
from usepcli.versions import need

MOST = 24  # lines that can be told apart by colour and dash
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))


def beside(runs: Mapping[str, Path], metrics: Sequence[str], out: str | Path, *more: str | Path) -> Path:
    """Draw metrics of trainings, by name with their valid.csv, as PNG or SVG; return the first path.

    A metric that no training has is left out, and so is a training that has none; of more than MOST trainings the first
    are drawn, and the picture says so.  BadInput where nothing is left, MissingDependency without matplotlib.
    """
    need("the scores over the epochs", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    tables = {name: columns(path) for name, path in runs.items()}
    lines = {name: table for name, table in tables.items() if any(_has(table, metric) for metric in metrics)}
    shown = [metric for metric in dict.fromkeys(metrics) if any(_has(table, metric) for table in lines.values())]
    if not shown:
        raise BadInput(f"{', '.join(map(str, runs.values()))}: no values of {', '.join(metrics)} to draw")
    drawn = dict(list(lines.items())[:MOST])
    wide = min(3, len(shown))
    rows = -(-len(drawn) // wide) if len(drawn) > 1 else 0  # of the legend
    figure = Figure(figsize=(3.4 * len(shown) + 0.4, 3.2 + 0.22 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, metric in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for k, (name, table) in enumerate(drawn.items()):
            if _has(table, metric):
                style = {"color": SOURCES[k % len(SOURCES)], "linestyle": _DASHES[k // len(SOURCES)]}
                axis.plot(table["epoch"], table[metric], marker="o", markersize=2.5, linewidth=1.3, label=name, **style)
        axis.set_title(f"{metric} (dB)" if metric in DECIBEL else metric, fontsize="medium", loc="left")
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    if len(drawn) > 1:
        lines_by_name = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
        figure.legend(
            list(lines_by_name.values()), list(map(str, lines_by_name)), loc="outside lower left", ncols=wide,
            frameon=False, fontsize="small",
        )  # fmt: skip
    if len(lines) > MOST:
        figure.suptitle(f"the first {MOST} of {len(lines)} trainings", fontsize="small")
    return save(figure, out, *more)


def _has(table: Mapping[str, Sequence[float]], metric: str) -> bool:
    return "epoch" in table and any(map(math.isfinite, table.get(metric, ())))
