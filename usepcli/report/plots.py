"""Pictures of what a run did.  They need matplotlib, the extra `plot`."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usepcli import files
from usepcli.errors import BadInput, InputNotFound, UsageError
from usepcli.report.logged import Logged
from usepcli.versions import need

VALID_FIXED = ("epoch", "step", "best", "seconds", "skipped", "teacher_input_si_sdr")
# Figures between 0 and 1 that share one panel.
SHARES = {"loudest_share": "#a3324a", "activity_entropy": "#5b6b7a", "silent_share": "#8a6fb0"}
DECIBEL = {
    "si-snr", "si-snri", "snr", "snri", "sdr", "sdri", "sir", "sar", "si-snr-fuss", "si-snri-fuss", "momi",
    "teacher_agreement",
}  # fmt: skip
FEW = 20
DRAWN = 2000  # stretches of a line of more points than twice as many, more than a picture has columns
SMOOTHED = 500  # points of the running median: a run has a hundred thousand steps, a picture a thousand dots
FORMS = ("png", "svg")
MARK = "usep"  # who made a picture, in its metadata
LOSS, SMOOTH, RATE, SCORE, BESIDE = "#b9cfe4", "#1f5f99", "#b06a1c", "#2b7a4b", "#47818f"


def learning_curve(train_csv: str | Path | Logged, valid_csv: str | Path, out: str | Path, *more: str | Path) -> Path:
    """Draw loss and learning rate over steps above what the validations found, as PNG or SVG; return the first path.

    train_csv needs columns step and loss (and may have lr); valid_csv, step and scores, may be absent. The score that
    chose comes first, then one panel for each score beside it and one for the shares of health.
    InputNotFound or BadInput for the tables, MissingDependency without matplotlib.
    """
    log = train_csv if isinstance(train_csv, Logged) else Logged(train_csv)
    train = log.read()
    if "step" not in train or "loss" not in train or not len(train["step"]):
        raise BadInput(f"{log.path}: expected columns step and loss with at least one row")
    valid = columns(Path(valid_csv)) if Path(valid_csv).exists() else {}
    chose, beside, shares = _panels(valid)
    figure, axes = _canvas([2.9] * (1 + bool(chose)) + [1.6] * (len(beside) + bool(shares)))
    _draw_loss(axes[0], train)
    for axis, name in zip(axes[1:], [chose, *beside] if chose else beside, strict=False):
        _draw_metric(axis, valid, name, name == chose)
    if shares:
        _draw_shares(axes[-1], valid, shares)
    axes[-1].set_xlabel("step")
    return save(figure, out, *more)


def save(figure: Any, out: str | Path, *more: str | Path) -> Path:
    """Write a figure as PNG or SVG, as each suffix says, and return the first path; UsageError for another suffix.

    A picture appears when it is complete. IOFault where the disk is full.
    """
    for path in (Path(out), *map(Path, more)):
        form = path.suffix.lower().lstrip(".")
        if form not in FORMS:
            raise UsageError(f"{path}: pictures are written as .png or .svg, not '{path.suffix}'")
        # What fails leaves the earlier picture.
        with files.whole(path) as temporary:
            _write(figure, temporary, form)
    return Path(out)


def _write(figure: Any, path: Path, form: str) -> None:
    import matplotlib

    # Without the date and with a fixed salt equal figures are equal, but for the names of clip paths; text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "usep", "svg.fonttype": "none"}):
        facts = {"Date": None, "Creator": MARK} if form == "svg" else {"Software": MARK}
        figure.savefig(path, dpi=120, format=form, metadata=facts)


def _panels(valid: dict[str, list[float]]) -> tuple[str, list[str], list[str]]:
    """Return the score that chose ('' for none), those beside it, and the shares; each holds a number."""
    names = [name for name in valid if name not in VALID_FIXED]
    chose = names[0] if names and "best" in valid else ""
    names = [name for name in names if any(map(math.isfinite, valid[name]))]
    beside = [name for name in names if name != chose and name not in SHARES]
    return chose if chose in names else "", beside, [name for name in names if name in SHARES and name != chose]


def _canvas(heights: list[float]) -> tuple[Any, list[Any]]:
    """Return a figure that belongs to no window system and needs no closing, and its axes (inches high) over one x."""
    need("the learning curve", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    for axis in axes:
        axis.grid(color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_loss(axis: Any, train: dict[str, np.ndarray]) -> None:
    step, loss = train["step"], train["loss"]
    # A line through one value is invisible.
    marker = "o" if len(loss) < FEW else ""
    axis.plot(*_thinned(step, loss), color=LOSS, linewidth=0.8, marker=marker, markersize=3, label="loss")
    near = range(0, len(loss), max(1, len(loss) // SMOOTHED))
    smooth = _smooth(loss, max(1, len(loss) // 25), near)
    axis.plot([step[i] for i in near], smooth, color=SMOOTH, linewidth=1.6, label="running median")
    axis.set_ylabel("training loss", color=SMOOTH)
    _limit(axis, loss)
    # Above the lines, not among them: the loss falls from the upper left, the rate may fill the upper right.
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.97), ncols=2, fontsize="small")
    if np.isfinite(train.get("lr", np.zeros(0))).any():
        twin = axis.twinx()
        twin.plot(*_thinned(step, train["lr"]), color=RATE, linewidth=1.0, linestyle=(0, (4, 2)))
        twin.set_ylabel("learning rate", color=RATE)
        twin.set_ylim(bottom=0)
        twin.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        twin.spines["top"].set_visible(False)


def _draw_metric(axis: Any, valid: dict[str, list[float]], metric: str, chose: bool) -> None:
    color = SCORE if chose else BESIDE
    axis.plot(valid["step"], valid[metric], color=color, marker="o", markersize=3, linewidth=1.4)
    label = f"validation {metric}" if chose else metric.replace("_", "\n")
    axis.set_ylabel(label + (f"{' ' if chose else chr(10)}(dB)" if metric in DECIBEL else ""), color=color)
    best = _last_best(valid[metric], valid.get("best", [])) if chose else None
    if best is not None:
        step, value = valid["step"][best], valid[metric][best]
        axis.plot([step], [value], "o", color=SCORE, markersize=7, markerfacecolor="white")
        axis.set_title(f"best {value:.2f} at step {step:.0f}", fontsize="small", loc="left", color=SCORE)


def _draw_shares(axis: Any, valid: dict[str, list[float]], names: list[str]) -> None:
    for name in names:
        label = name.replace("_", " ")
        axis.plot(valid["step"], valid[name], color=SHARES[name], marker="o", markersize=2, linewidth=1.2, label=label)
    axis.set_ylim(-0.03, 1.03)
    axis.set_ylabel("outputs")
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.95), ncols=len(names), fontsize="small")


def _last_best(scores: list[float], best: list[float]) -> int | None:
    """Return the index of the last row whose score is the best so far, which is what `best` holds."""
    return next((i for i in reversed(range(len(best))) if scores[i] == best[i]), None)


def _limit(axis: Any, values: Sequence[float] | np.ndarray) -> None:
    values = np.asarray(values, float)
    # One exploding step would flatten everything else; the y range follows the bulk of the values.
    finite = np.sort(values[np.isfinite(values)])
    if len(finite) < 20:
        return
    low, high = finite[0], finite[int(0.99 * (len(finite) - 1))]
    if high > low and finite[-1] > high + 2 * (high - low):
        axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))


def _thinned(step: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a line that look like all of them: of each of DRAWN stretches the lowest and the highest."""
    if len(step) <= 2 * DRAWN:
        return step, values
    kept = [np.array([0, len(step) - 1])]
    for part in np.array_split(np.arange(len(step)), DRAWN):
        finite = part[np.isfinite(values[part])]
        kept.append(finite[[np.argmin(values[finite]), np.argmax(values[finite])]] if len(finite) else part[:1])
    places = np.unique(np.concatenate(kept))
    return step[places], values[places]


def _smooth(values: Sequence[float] | np.ndarray, half: int, at: Iterable[int]) -> list[float]:
    """Return the running median over 2*half+1 values, shorter at the ends, without nan, at some indices."""
    smooth, values = [], np.asarray(values, float)
    for i in at:
        near = values[max(0, i - half) : i + half + 1]
        near = near[np.isfinite(near)]
        smooth.append(float(np.partition(near, len(near) // 2)[len(near) // 2]) if len(near) else math.nan)
    return smooth


def columns(path: Path) -> dict[str, list[float]]:
    """Return the columns of a table as numbers, nan for what is none; InputNotFound or BadInput without one."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            return {name: [_number(row[name]) for row in rows] for name in reader.fieldnames or []}
    except FileNotFoundError as fault:
        raise InputNotFound(f"{path}: no such table; a training run writes it") from fault
    except (UnicodeDecodeError, csv.Error) as fault:
        raise BadInput(f"{path}: not a CSV table in UTF-8: {fault}") from fault


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
