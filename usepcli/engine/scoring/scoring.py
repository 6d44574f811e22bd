"""Scores of one item, and what they come to over many.

Outputs are assigned to references by the best mean SI-SNR, the best K of N outputs count and the others are
ignored.  A silent reference takes no part and its row says so.  One row per item and source, never a mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from usepcli import guard, registry
from usepcli.dsp import holes
from usepcli.engine import tables
from usepcli.engine.scoring import channels
from usepcli.engine.scoring.channels import SILENT_RMS
from usepcli.errors import BadInput, MissingDependency, UsageError, choices

FAILED = "not scored: "  # begins the reason of an item that could not be read, separated or scored
NO_ESTIMATE = "no estimate"
HOLES = (
    f"cells of {1000 * holes.WINDOW_S:g} ms, means of {holes.SMOOTH} x {holes.SMOOTH}, within {holes.SOUNDING_DB:g} dB "
    f"of its loudest, in which the estimate at its level lies {holes.BELOW_DB:g} dB or more below (our own measure)"
)
ASKED = "of estimates asked for: estimate k answers the query of source k, no permutation is searched"
CONVENTIONS = {
    "assignment": "permutation with the best mean SI-SNR; the best K of N outputs, further outputs ignored",
    "silent references": f"rms at most {SILENT_RMS:g}: left out of assignment and means, reason in items.csv",
    "improvements": "in dB: none where the mixture is its one source alone, reason in items.csv",
    "unequal lengths": "trimmed to the shortest, noted in items.csv",
    "mean": "over all sources of all items",
    "interval": "95 %, Student t, the sources of one item counted as one cluster",
}


class Signals(NamedTuple):
    """What one item needs to be scored: est (N,T), ref (K,T), mix (T,) or None, all at `rate` Hz where known.

    Of several channels est is (N,C,T), ref (K,C,T) and mix (C,T).
    ordered: estimate k is meant for reference k, whatever else it may resemble.
    beside: by system, other estimates of the same model, or why there are none.
    """

    id: str
    sources: tuple[str, ...]
    est: np.ndarray
    ref: np.ndarray
    mix: np.ndarray | None
    note: str = ""
    rate: int | None = None
    ordered: bool = False
    beside: Mapping[str, np.ndarray | str] = {}  # travels between processes, where a MappingProxyType cannot


def metric(name: str) -> Any:
    """Return the Metric called `name`; ConfigError with suggestions if unknown."""
    return registry.load("metric", name)


def check_metrics(metrics: Sequence[str], has_mixture: bool = True) -> None:
    """UsageError unless every name is known, and for improvements without mixtures.

    MissingDependency where the libraries of all of them are absent; of some: their columns are empty and say why.
    """
    if not metrics:
        raise UsageError(f"no metric asked for; choose from: {', '.join(sorted(registry.METRICS))}")
    for name in metrics:
        if name not in registry.METRICS:
            raise UsageError(choices("metric", name, registry.METRICS))
    needing = [name for name in metrics if not has_mixture and metric(name).needs_mixture]
    if needing:
        raise UsageError(f"{', '.join(needing)}: improvements need the mixtures; give --mixtures DIR")
    absent = missing_metrics(metrics)
    if len(absent) == len(set(metrics)):
        raise MissingDependency(f"{', '.join(absent)}: {next(iter(absent.values()))}")


def missing_metrics(metrics: Sequence[str]) -> dict[str, str]:
    """Return the metrics that cannot be computed here, and why: most often an optional library is not installed."""
    return {name: why for name in metrics if (why := metric(name).missing())}


def score_signals(signals: Signals, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per reference: id, source, n_src, one value per metric (nan if missing), reason.

    Of several channels a value is the mean over those in which the reference sounds (scoring/channels.py), and
    `channels` says how many there are.
    """
    from usepcli.metrics.align import permutation

    est, ref, mix = _aligned(signals)
    heard = channels.sounding(ref)  # (K, C)
    rows = [blank_row(signals.id, name, len(ref), metrics, signals.note) for name in signals.sources]
    active = [k for k, where in enumerate(heard) if where.any()]
    for k in set(range(len(rows))) - set(active):
        rows[k]["reason"] = _join(signals.note, "silent reference")
    if signals.ordered and len(est) != len(ref):
        raise BadInput(f"{signals.id}: {len(est)} answers for {len(ref)} references; expected one for each")
    if signals.ordered:
        est = est[active]
    if len(est) < len(active):
        raise BadInput(f"{signals.id}: {len(est)} estimates for {len(active)} sounding references; expected as many")
    if active:
        est = est if signals.ordered else est[permutation(est, ref[active])]
        for k, own in zip(active, est, strict=False):
            rows[k]["reason"] = _join(signals.note, channels.left_out(own, ref[k], heard[k]))
        _fill([rows[k] for k in active], Sounds(est, ref[active], mix, heard[active], signals.rate), metrics)
    if ref.shape[1] > 1:
        rows = [row | {"channels": ref.shape[1]} for row in rows]
    return rows


def _aligned(signals: Signals) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return est (N,C,T), ref (K,C,T) and mix (C,T) of an item, cut to the shortest; BadInput for other channels."""
    est, ref = channels.split(signals.est), channels.split(signals.ref)
    mix = None if signals.mix is None else channels.split(np.asarray(signals.mix)[None])[0]
    there = [est, ref, *([] if mix is None else [mix])]
    counts = {wave.shape[-2] for wave in there}
    if len(counts) > 1:
        raise BadInput(f"{signals.id}: {' and '.join(map(str, sorted(counts)))} channels; expected one number for all")
    length = min(wave.shape[-1] for wave in there)
    return est[..., :length], ref[..., :length], None if mix is None else mix[..., :length]


def blank_row(item: str, source: str, n_src: int, metrics: Sequence[str], reason: str) -> dict[str, Any]:
    """Return a row of items.csv without values."""
    values = dict.fromkeys(metrics, math.nan)
    return {"id": item, "source": source, "n_src": n_src, **values, "reason": reason}


def failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the ids of the items that could not be scored at all."""
    return list(dict.fromkeys(row["id"] for row in rows if row["reason"].startswith(FAILED)))


class Sounds(NamedTuple):
    """The sounding references (K,C,T) of an item, their estimates, the mixture (C,T), and where they sound (K,C)."""

    est: np.ndarray
    ref: np.ndarray
    mix: np.ndarray | None
    heard: np.ndarray
    rate: int | None


def _fill(rows: list[dict[str, Any]], sounds: Sounds, metrics: Sequence[str]) -> None:
    """Write each metric's values into the rows of the sounding references."""
    for name in metrics:
        values, reasons = _scored(metric(name), sounds)
        for row, value, reason in zip(rows, values, reasons, strict=True):
            row[name] = round(float(value), 6)
            if not math.isfinite(value):
                said = reason or ("infinite" if math.isinf(value) else "undefined")
                row["reason"] = _join(row["reason"], f"{name}: {said}")
            elif reason:
                row["reason"] = _join(row["reason"], f"{name}: {reason}")


def _scored(of: Any, sounds: Sounds) -> tuple[np.ndarray, list[str]]:
    """Return a metric's values (K,), means over channels, and why one is missing or which channels it leaves out.

    A channel to which the references or the mixture give no score counts for nothing; one to which the estimate gives
    none takes the value away.
    """
    n_src, several = len(sounds.ref), sounds.heard.shape[1] > 1
    values = np.full(sounds.heard.shape, np.nan)  # (K, C)
    counts = sounds.heard.copy()
    reasons: list[dict[int, str]] = [{} for _ in range(n_src)]
    for c in range(sounds.heard.shape[1]):
        own = np.flatnonzero(sounds.heard[:, c])
        if not len(own):
            continue
        mix = None if sounds.mix is None else sounds.mix[c]
        try:
            found, why = of.score(sounds.est[own, c], sounds.ref[own, c], mix, sounds.rate)
            unfit = bool(of.common_reason(sounds.ref[own, c], mix))
        except Exception as error:  # one metric that cannot take an item leaves the others their values
            found, why, unfit = np.full(len(own), np.nan), [guard.reason(error, of.name)] * len(own), False
        values[own, c] = found
        counts[own, c] = not unfit
        for k, said in zip(own, why, strict=True):
            if said:
                reasons[k][c] = said
    counts[~counts.any(1)] = sounds.heard[~counts.any(1)]
    return channels.mean(values, counts), [_told(said) if several else said.get(0, "") for said in reasons]


def _told(said: dict[int, str]) -> str:
    """Return the reasons of channels in words, channels of one reason together."""
    return "; ".join(
        f"{channels.named([c for c, other in said.items() if other == why])}: {why}"
        for why in dict.fromkeys(said.values())
    )


def _join(*parts: str) -> str:
    return "; ".join(dict.fromkeys(part for part in parts if part))


def summary(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return per metric: mean, median, 95 % interval of the mean (tables.summarise), n used and n missing."""
    result = []
    for name in metrics:
        of = tables.summarise([row[name] for row in rows], [row["id"] for row in rows])
        result.append({"metric": name, **of._asdict(), "missing": len(rows) - of.n})
    return result


def convention(name: str) -> str:
    """Return in words what a metric computes."""
    known = {
        "snr": "energy of the reference over energy of (reference - estimate), in dB",
        "si-snr": "SNR after the best scaling of the reference (Le Roux et al. 2019), means kept, in dB",
        "sdr": "BSS-eval v3 signal-to-distortion ratio, 512-tap distortion filter, in dB",
        "sir": "BSS-eval v3 signal-to-interference ratio, 512-tap distortion filter, in dB",
        "sar": "BSS-eval v3 signal-to-artefact ratio, 512-tap distortion filter, in dB",
        "si-snr-fuss": "10 log10((r^2 + eps) / (1 - r^2 + eps)) of the cosine r, eps 1e-8, means kept, in dB",
        "holes": f"share of the reference's energy that the estimate lacks, in %: {HOLES}",
        "holes-area": f"share of the reference's spectrogram that the estimate lacks, in %: {HOLES}",
        "stoi": "STOI of Taal et al. 2011 (pystoi, not extended), 0 to 1",
        "pesq": "PESQ as MOS-LQO, P.862.1 (narrow band) at 8 kHz, P.862.2 (wide band) at 16 kHz",
    }
    base = name if name in known else name.replace("snri-", "snr-").removesuffix("i")
    text = known.get(base, f"in {metric(name).unit}")
    return text if base == name else f"{text}; minus that of the mixture against the same reference"
