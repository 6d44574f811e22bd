"""The card of a model: what it is, what it learned from, what it may be used for, and how it scored.

A model file is safetensors: eight bytes that give the length of a JSON header, the header with names, shapes and the
card, then the numbers. All that is asked here stands in the header, so neither torch nor a number is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from usepcli import registry
from usepcli.audio import stems
from usepcli.audio.rates import HIGHEST_RATE
from usepcli.errors import BadInput
from usepcli.files import parse_json
from usepcli.weights import tried

FORMAT = 1
# Bytes of a header; one with a card and a thousand tensors has 200 000.
_MOST = 1 << 24
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
    "U8": 1, "BOOL": 1,
}  # fmt: skip
_MOST_OUTPUTS = 1000
_SUREST = math.log(1000)  # no few hundred scenes tell more
_LONGEST_WINDOW_S = 60.0
LEAST_SILENT_DB, MOST_SILENT_DB = 3.0, 60.0
UNSTATED, IMPORTED = "unstated", "imported from"
STEP = "step:"  # before a matrix's name, that of its rows' steps: see weights/packing.py
MEASURES = ("level", "purity")  # of an answer to a query, in dB: see separator/presence.py


@dataclass
class Card:
    """What a model is, what it learned from, what it may be used for, and how it scored."""

    name: str = ""
    about: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    sample_rate: int = 0
    # 0 for a model that separates by query: as many as it is asked for.
    n_src: int = 0
    objective: str = ""
    training_data: str = ""
    # Of the training data; `licences` may add those of the "code" that made the weights, and of the "weights".
    licence: str = ""
    licences: dict[str, str] = field(default_factory=dict)
    credits: str = ""
    scores: list[dict[str, Any]] = field(default_factory=list)
    profile: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    # Where the weights came from, if usep did not train them.
    origin: str = ""
    # What the model takes, as weights.build.cost_of counts it, so that it can be told without making the model.
    cost: dict[str, Any] = field(default_factory=dict)
    # Frozen parts that training used and the file does not hold: name -> reference and sha256.
    fixed: dict[str, dict[str, str]] = field(default_factory=dict)
    # Of a model by query: how its answers tell whether a sound is there at all, see `calibration`.
    presence: dict[str, Any] = field(default_factory=dict)
    # Of a model by query: {"metric", "data", "phrases": {phrase: [mean, items]}}, what it was asked for in a test.
    tried: dict[str, Any] = field(default_factory=dict)
    # Of a model with outputs of its own: which of them count as silent, see `silent_db`.
    silence: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the card as one JSON object."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card without control characters; keys of later versions are passed over; ValueError if it is none."""
        raw, empty = _printable(parse_json(text)), cls()
        if not isinstance(raw, dict):
            raise ValueError(f"found a {type(raw).__name__}, expected an object")
        held = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
        for key, value in held.items():
            if not isinstance(value, type(getattr(empty, key))) or isinstance(value, bool):
                expected = type(getattr(empty, key)).__name__
                raise ValueError(f"{key} is a {type(value).__name__}, expected {expected}")
        if not all(isinstance(score, dict) for score in held.get("scores", ())):
            raise ValueError("a score is no object")
        if not all(isinstance(text, str) for text in held.get("licences", {}).values()):
            raise ValueError("a licence is no text")
        card = cls(**held)
        for key, most in (("sample_rate", HIGHEST_RATE), ("n_src", _MOST_OUTPUTS), ("steps", 1 << 62)):
            if not 0 <= getattr(card, key) <= most:
                raise ValueError(f"{key} is {str(getattr(card, key))[:40]}, expected 0 to {most}")
        cost(card)
        tried.sentence(card.tried)
        calibration(card)
        silent_db(card)
        if why := stems.refusal(card.model.get("stems", ())):
            raise ValueError(f"model.stems: {why}")
        return card

    @property
    def sources(self) -> int | tuple[str, ...]:
        """What the model calls its outputs, or their number."""
        return tuple(self.model.get("stems", ())) or kinds(self) or self.n_src

    @property
    def hears_s(self) -> float:
        """Seconds that the model is made to hear at once, 0 where it has no say."""
        return _seconds(self.model.get("segment_s"))

    @property
    def segment_s(self) -> float:
        """Seconds of one training segment as the profile states them, 0 where it does not."""
        data = self.profile.get("data")
        return _seconds(data.get("segment_s") if isinstance(data, dict) else 0)


def _seconds(stated: object) -> float:
    return float(stated) if isinstance(stated, (int, float)) and math.isfinite(stated) else 0.0


def kinds(card: Card) -> tuple[str, ...]:
    """Return the names of outputs that training gave a kind each, the residual's being "noise"; () where none can be.

    Of the kinds that `fixed` was told, as names of files; of one source beside noise without a word for it, "source".
    """
    told = card.profile.get("objective")
    if card.objective != "fixed" or not isinstance(told, dict):
        return ()
    words = told.get("kinds")
    noise = ["noise"] if told.get("residual") is True else []
    named = [str(word) for word in words] if isinstance(words, list | tuple) else []
    if not named and noise and card.n_src == 2:
        named = ["source"]
    names = (*(re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:40] for word in named), *noise)
    return names if len(names) == card.n_src and not stems.refusal(names) else ()


_DECIBELS = {
    *("si-snr", "si-snri", "snr", "snri", "sdr", "sdri", "sir", "sar", "si-snr-fuss", "si-snri-fuss", "momi", "msi"),
}


def outputs(n_src: int) -> str:
    """Say how many outputs a model has, in words: one by query, which a model of 0 outputs is, has one for each."""
    return f"{n_src} outputs" if n_src else "an output for each query"


def score_value(score: Mapping[str, Any]) -> str:
    """Return metric and value of a score with its unit, e.g. `si-snri 7.45 dB`; '' where it states none."""
    metric, value = str(score.get("metric", "")), score.get("value")
    if not metric or value is None:
        return ""
    return f"{metric} {value}{' dB' if metric in _DECIBELS else ''}"


def score_sentence(score: Mapping[str, Any]) -> str:
    """Return a score in words: metric, value, interval, on what data, by which protocol, over how many."""
    words = [score_value(score) or "a score without metric or value"]
    interval = score.get("ci95")
    if isinstance(interval, (list, tuple)) and len(interval) == 2:
        words.append(f"(95 % interval {interval[0]} to {interval[1]})")
    words.append(f"on {score['data']}" if score.get("data") else "on data that its card does not name")
    by = f"; protocol: {score['protocol']}" if score.get("protocol") else ""
    count = f"; n = {score['n']}" if score.get("n") else ""
    return f"{' '.join(words)}{by}{count}"


def trained_for(card: Card) -> str:
    """Return one sentence on what a model is for, as its card says, and what that means for other sounds."""
    if card.objective in registry.PREPARING:
        return f"This separates nothing: objective {card.objective} learned it for the training of a model that does."
    if card.about.startswith(IMPORTED):
        known = card.training_data not in ("", UNSTATED)
        data = f"it learned from {card.training_data.rstrip('. ')}" if known else "what it learned from is not stated"
        return f"This model was {card.about.rstrip('. ')}; {data}. What it did not learn from it does not separate."
    if not (card.about or card.training_data):
        return "The card of this model does not say what it was trained for; listen before you trust what it gives."
    made = card.about.rstrip(". ") or f"what it learned from, {card.training_data.rstrip('. ')}"
    return f"This model was trained for: {made}. What it did not learn from it does not separate."


_BARRED = re.compile(r"\bNC\b|non-?\s?commercial|research (only|use)|scientific (purposes|use)", re.IGNORECASE)


def barred(card: Card) -> str:
    """Return one sentence for a model whose data or weights are not for commercial use, '' for any other."""
    said = [f"its weights ({card.licences['weights']})"] if _BARRED.search(card.licences.get("weights", "")) else []
    if _BARRED.search(card.licence):
        said.append(f"what it learned from ({card.licence})")
    return f"Not for commercial use: {' and '.join(said)}." if said else ""


class Cost(NamedTuple):
    """What a model takes: delay and field in samples at its rate (field None: the whole input), operations a second."""

    causal: bool
    latency_samples: int
    receptive_field_samples: int | None
    flops_per_second: float
    live: bool = False  # whether it takes blocks as they come
    parameters: int = 0  # where the file holds other numbers, too; 0: all that it holds


def cost(card: Card) -> Cost | None:
    """Return what a card says that its model takes, None where it says nothing; ValueError for what cannot be."""
    if not card.cost:
        return None
    found = Cost(*(card.cost.get(name, Cost._field_defaults.get(name)) for name in Cost._fields))  # type: ignore[arg-type]
    numbers = (
        found.latency_samples, found.receptive_field_samples or 0, found.parameters, found.flops_per_second,
    )  # fmt: skip
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers[:3])
    if (
        not isinstance(found.causal, bool)
        or not isinstance(found.live, bool)
        or not whole
        or not isinstance(numbers[3], (int, float))
    ):
        raise ValueError(f"cost: found {card.cost}; expected {', '.join(Cost._fields)}")
    if not all(0 <= n < math.inf for n in numbers):
        raise ValueError(f"cost: found {card.cost}; expected no number below 0")
    return found


class Calibration(NamedTuple):
    """How measures of an answer to a query become the odds that the sound is there (separator/presence.py)."""

    weights: tuple[float, ...]
    bias: float
    window_s: float

    def odds(self, measures: Sequence[float]) -> float:
        """Return the odds that the sound is there, 1 for even ones, between 1/1000 and 1000."""
        logit = self.bias + sum(w * z for w, z in zip(self.weights, measures, strict=True))
        return math.exp(max(-_SUREST, min(_SUREST, logit)))


def calibration(card: Card) -> Calibration | None:
    """Return how a model's answers become odds, None for a model that was not calibrated; ValueError for what is none.

    None, too, for one by measures that came later than this version.
    """
    if not card.presence:
        return None
    weights, bias, window = (card.presence.get(name) for name in ("weights", "bias", "window_s"))
    numbers = [*weights.values(), bias, window] if isinstance(weights, dict) and weights else [None]
    if not all(isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise ValueError(
            f"presence: found {str(card.presence)[:80]}; expected weights of {', '.join(MEASURES)}, bias, window_s"
        )
    if not 0 < window <= _LONGEST_WINDOW_S:  # type: ignore[operator]
        raise ValueError(f"presence: window_s is {window}; expected a number up to {_LONGEST_WINDOW_S:g}")
    if not set(weights) <= set(MEASURES):  # type: ignore[arg-type]
        return None
    held = tuple(float(weights.get(name, 0.0)) for name in MEASURES)  # type: ignore[union-attr]
    return Calibration(held, float(bias), float(window))  # type: ignore[arg-type]


def silent_db(card: Card) -> float | None:
    """Return how far a silent output's loudest own window lies below the recording's, None for a model not calibrated.

    Or calibrated by the level of whole windows (active_db), which says nothing of this.  ValueError for what is no
    number from LEAST_SILENT_DB to MOST_SILENT_DB.
    """
    if not card.silence or ("active_db" in card.silence and "own_db" not in card.silence):
        return None
    found = card.silence.get("own_db")
    if not isinstance(found, (int, float)) or isinstance(found, bool) or not LEAST_SILENT_DB <= found <= MOST_SILENT_DB:
        raise ValueError(f"silence: own_db is {str(found)[:40]}; expected {LEAST_SILENT_DB:g} to {MOST_SILENT_DB:g} dB")
    return float(found)


def _printable(value: Any) -> Any:
    """Return a JSON value whose texts cannot drive a terminal."""
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return "".join(c for c in value if c.isprintable() or c == "\n") if isinstance(value, str) else value


class Header(NamedTuple):
    """What a model file says before its numbers: the card, the sha256 of the weights, and every weight's shape."""

    card: Card
    sha256: str
    shapes: dict[str, tuple[int, ...]]

    @property
    def n_numbers(self) -> int:
        """How many numbers are stored: the parameters, and what else a model stores, running means of a norm."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def n_params(self) -> int:
        """How many of them are parameters; all, where the card says nothing else."""
        found = cost(self.card)
        return (found.parameters if found else 0) or self.n_numbers


def read_header(path: Path) -> Header:
    """Return what a model file says of itself; BadInput where it is none, is cut short, or has no card of usep."""
    try:
        raw = _header(path)
        meta = raw.pop("__metadata__", {})
        shapes = {name: tuple(part["shape"]) for name, part in raw.items() if not name.startswith(STEP)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as fault:
        onnx = "an ONNX file; usep import makes a model file of it" if path.suffix == ".onnx" else ""
        raise BadInput(f"{path}: not a readable model file ({what_instead(path) or onnx or fault})") from fault
    if not isinstance(meta.get("usep"), str) or not isinstance(meta.get("sha256", ""), str):
        raise BadInput(f"{path}: a safetensors file without a usep card; only models written by usep can be loaded")
    try:
        return Header(Card.from_json(meta["usep"]), meta.get("sha256", ""), shapes)
    except (ValueError, RecursionError) as fault:
        raise BadInput(f"{path}: its card cannot be read ({fault}); fetch the file again") from fault


def read_card(path: Path) -> tuple[Card, str]:
    """Return the card and the sha256 of the weights that a model file declares; errors as for `read_header`."""
    header = read_header(path)
    return header.card, header.sha256


def digest(raw: bytes) -> str:
    """Return the sha256 of the weights in the bytes of a model file: of every name and its numbers, by name."""
    begin = 8 + int.from_bytes(raw[:8], "little")
    parts = json.loads(raw[8:begin])
    sha = hashlib.sha256()
    for name in sorted(parts.keys() - {"__metadata__"}):
        first, last = parts[name]["data_offsets"]
        sha.update(name.encode())
        sha.update(raw[begin + first : begin + last])
    return sha.hexdigest()


def with_card(raw: bytes, card: Card) -> bytes:
    """Return the bytes of a model file with another card; its numbers, and their sha256, stay as they are."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"]["usep"] = card.to_json()
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]


def _header(path: Path) -> dict[str, Any]:
    """Return the JSON header of a safetensors file; ValueError where it is none or the numbers are not all there."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        held = file.seek(0, 2) - 8
        if not 2 <= size <= min(held, _MOST):
            raise ValueError("no safetensors header")
        file.seek(8)
        raw = parse_json(file.read(size).decode("utf-8"))
    if not isinstance(raw, dict) or not all(isinstance(part, dict) for part in raw.values()):
        raise ValueError("no safetensors header")
    parts = sorted((_extent(part), name) for name, part in raw.items() if name != "__metadata__")
    end = 0
    for (first, last), name in parts:  # one behind the other, as the format has it: none may stand for another, too
        if first != end:
            raise ValueError(f"the numbers of '{name[:40]}' do not begin where those before them end")
        end = last
    if end != held - size:
        raise ValueError(f"{held - size} bytes of numbers, {end} expected")
    return raw


def _extent(part: Mapping[str, Any]) -> tuple[int, int]:
    """Return where a tensor's bytes begin and end; ValueError unless they are as many as its shape takes."""
    (first, last), shape = part["data_offsets"], part["shape"]
    whole = [*shape, first, last]
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 62 for n in whole) or len(shape) > 16:
        raise ValueError("a shape or a place in the file that is none")
    size = _BYTES.get(part["dtype"], 0)  # of kinds that came later, the extent alone is known
    if size and math.prod(shape) * size != last - first:
        raise ValueError(f"{last - first} bytes for numbers of shape {shape}")
    return first, last


def what_instead(path: Path) -> str:
    """Say what a file that should hold a model is by its first bytes, where that is a usual mishap; else ''."""
    try:
        with open(path, "rb") as file:
            start = file.read(200).lstrip().lower()
    except OSError:
        return ""  # its own fault says more
    if not start:
        return "an empty file"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page; download the file itself, not the page that shows it"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS; run `git lfs pull` where it came from, or download the file itself"
    return ""
