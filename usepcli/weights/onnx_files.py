"""ONNX files of other people's separators, each with a YAML file beside it that says what it hears and gives.

sample_rate: 44100
input: stft                       # or wave, the default
channels: 2                       # 1, unless said
stems: [vocals, instrumental]     # or outputs: 2, where they have no names
gives: vocals                     # where the graph gives this one alone: the other is the mixture less it
n_fft: 6144                       # of stft alone: samples of a window and between two, bins and frames that the
hop: 1024                         # graph hears, and how many of the lowest bins are silenced before
dim_f: 2048
dim_t: 256
cut_bins: 3
compensation: 1.035               # what its outputs are multiplied by
segment_s: 5.8                    # seconds that it hears at once, where it takes no other length
licence: ...                      # of the training data; licence_weights, licence_code, training_data, about, credits
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usepcli.audio import stems as names
from usepcli.errors import BadInput, ConfigError, InputNotFound, did_you_mean
from usepcli.models import onnx_graph
from usepcli.profile import yaml_file
from usepcli.weights import cards

SUFFIX = ".onnx"
WORDS = ("about", "credits", "licence", "licence_code", "licence_weights", "training_data")
_STFT = ("n_fft", "hop", "dim_f", "dim_t")
_KINDS: dict[str, tuple[type, ...]] = {
    "sample_rate": (int,), "input": (str,), "channels": (int,), "outputs": (int,), "stems": (list,),
    "gives": (str, int), "cut_bins": (int,), "compensation": (int, float), "segment_s": (int, float),
    **dict.fromkeys(_STFT, (int,)), **dict.fromkeys(WORDS, (str,)),
}  # fmt: skip
_AT_ONCE_S = 12.0  # of windows side by side


@dataclass(frozen=True)
class Said:
    """What the YAML file says: the settings of the network, but for the size of the graph, and words for the card."""

    settings: dict[str, Any]
    words: dict[str, str] = field(default_factory=dict)


def beside(path: Path) -> Path:
    """Return the YAML file beside an ONNX file; InputNotFound, with what goes into it, where there is none."""
    for suffix in (".yaml", ".yml"):
        if (found := path.with_suffix(suffix)).is_file():
            return found
    raise InputNotFound(
        f"{path}: no {path.stem}.yaml beside it, which says what it hears and gives; write one with sample_rate, "
        "outputs or stems, and input: wave or stft (usep import --help)"
    )


def said(path: Path) -> Said:
    """Return what the YAML file beside an ONNX file says; BadInput where that cannot be meant."""
    where = beside(path)
    try:
        document = yaml_file.read(where, str(where))
    except ConfigError as fault:
        raise BadInput(str(fault).removeprefix(f"profile '{where.stem}': ")) from fault
    if document.faults:
        raise BadInput(str(document.faults[0]))
    try:
        return Said(_settings(document.values), {k: document.values[k] for k in WORDS if k in document.values})
    except ValueError as fault:
        raise BadInput(f"{where}: {fault}") from fault


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the network; ValueError for what is unknown, is missing, or does not fit."""
    for key, value in given.items():
        if key not in _KINDS:
            raise ValueError(f"{key}: no such key{did_you_mean(key, _KINDS)}; known are {', '.join(_KINDS)}")
        if not isinstance(value, _KINDS[key]) or isinstance(value, bool):
            kinds = " or ".join(
                {int: "a whole number", float: "a number", str: "text", list: "a list"}[k] for k in _KINDS[key]
            )
            raise ValueError(f"{key}: found {value!r:.60}; expected {kinds}")
    takes, stems, outputs = given.get("input", "wave"), given.get("stems", []), given.get("outputs", 0)
    if takes not in ("wave", "stft"):
        raise ValueError(f"input: found {takes!r:.40}; expected wave or stft")
    if missing := [key for key in ("sample_rate", *(_STFT if takes == "stft" else ())) if key not in given]:
        raise ValueError(
            f"{', '.join(missing)} missing; an input of kind {takes} needs {'them' if len(missing) > 1 else 'it'}"
        )
    if odd := [key for key in (*_STFT, "cut_bins") if key in given and takes == "wave"]:
        raise ValueError(f"{odd[0]}: says how a spectrum is made; add input: stft, or leave it out")
    if why := names.refusal(stems):
        raise ValueError(f"stems: {why}")
    if not (stems or outputs) or (stems and outputs not in (0, len(stems))):
        raise ValueError(
            f"found {len(stems)} stems and outputs: {outputs}; expected names of all outputs, or their number"
        )
    kept = {key: given[key] for key in (*_STFT, "cut_bins", "channels") if key in given}
    kept |= {key: float(given[key]) for key in ("compensation", "segment_s") if key in given}
    settings = {
        "name": "onnx", "takes": takes, "sample_rate": given["sample_rate"], "n_src": len(stems) or outputs,
        "gives": _given(given.get("gives", 0), stems), **kept,
    }  # fmt: skip
    settings |= {"stems": list(stems)} if stems else {}
    if takes == "stft" and "segment_s" not in kept:
        settings |= _windows(settings)
    return settings


def _given(which: str | int, stems: list[str]) -> int:
    if isinstance(which, int):
        return which
    if which not in stems:
        raise ValueError(
            f"gives: found {which!r:.60}; expected one of stems, {', '.join(stems) or 'which are missing'}"
        )
    return stems.index(which) + 1


def _windows(settings: dict[str, Any]) -> dict[str, float]:
    """Return the seconds that are heard at once: as many whole windows as 12 s hold, at least one and a second."""
    step = settings["hop"] * (settings["dim_t"] - 1) - settings["n_fft"]
    if step < 1 or settings["sample_rate"] < 1:
        return {}  # which the network refuses
    count = max(1, int(_AT_ONCE_S * settings["sample_rate"] // step), -(-settings["sample_rate"] // step))
    return {"segment_s": count * step / settings["sample_rate"]}


def header(path: Path) -> cards.Header:
    """Return card, sha256 and size of an ONNX file, without running it; BadInput where it is none."""
    told, raw = said(path), path.read_bytes()
    try:
        weights = onnx_graph.read(raw).weights
    except BadInput as fault:
        raise BadInput(f"{path}: {cards.what_instead(path) or fault}") from fault
    settings, words, size = told.settings, told.words, len(raw)
    cost = cards.Cost(False, settings.get("hop", 1), None, 0.0, parameters=weights)
    card = cards.Card(
        name=path.stem, about=words.get("about", f"{cards.IMPORTED} an ONNX file"), model={**settings, "size": size},
        sample_rate=settings["sample_rate"], n_src=settings["n_src"], cost=cost._asdict(),
        credits=words.get("credits", ""),
        training_data=words.get("training_data", cards.UNSTATED), licence=words.get("licence", cards.UNSTATED),
        licences={kind: words.get(f"licence_{kind}", cards.UNSTATED) for kind in ("code", "weights")},
    )  # fmt: skip
    return cards.Header(card, hashlib.sha256(raw).hexdigest(), {"graph": (size,)})
