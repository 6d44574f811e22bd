"""Checkpoints of asteroid (Pariente et al. 2020): the dictionary that `model.serialize()` gives, torch-saved.

Its keys are model_name, model_args (the constructor's arguments), state_dict, infos, and in published files
dataset, task and licenses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange import foreign_asteroid_complex as complex_nets
from usepcli.engine.exchange import foreign_asteroid_nets as nets
from usepcli.engine.exchange import foreign_asteroid_small as small
from usepcli.engine.exchange.foreign_parts import Found, Stated, plain, rate_of, renamed, some, whole
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput, UsageError, choices

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "asteroid's ConvTasNet, DPRNNTasNet, DPTNet, LSTMTasNet, SuDoRM-RF, DCUNet and DCCRNet"
CODE = "MIT"
_NORM_PARTS = ((r"(.+)\.gamma", r"\1.weight"), (r"(.+)\.beta", r"\1.bias"), (r"(.+)", r"\1"))


def knows(source: Source) -> bool:
    """Return whether a file, or pytorch_model.bin of a folder, is such a dictionary."""
    name = source.weights(r"pytorch_model\.bin", r"best_model\.pth")
    return bool(name) and {"model_name", "model_args", "state_dict"} <= set(source.raw(name))


def read(source: Source, stated: Stated) -> Found:
    """Return what the dictionary holds; BadInput if it is of another architecture or has unknown settings."""
    file = source.weights(r"pytorch_model\.bin", r"best_model\.pth")
    raw, where = source.raw(file), source.at(file)
    name, state = plain(raw["model_name"]), source.state(file)
    if name not in _READERS:
        raise BadInput(f"{where}: {choices('asteroid model', name, _READERS)}")
    if not isinstance(raw["model_args"], Mapping):
        raise BadInput(f"{where}: model_args is a {type(raw['model_args']).__name__}; expected a dictionary")
    if stated.mask or stated.blocks:
        raise UsageError(f"{where}: states its mask and its blocks itself; leave --mask and --blocks out")
    defaults, reader = _READERS[name]
    args = dict(raw["model_args"])
    if unknown := [plain(key) for key in args if key not in defaults and key not in ("n_src", "sample_rate")]:
        raise BadInput(f"{where}: settings that usep does not have: {some(unknown)}")
    absent = {key: value for key, value in defaults.items() if key not in args}
    args = absent | args
    common = {
        "n_src": whole(where, "n_src", args.get("n_src"), 1),
        "sample_rate": rate_of(args.get("sample_rate"), stated, where),
    }
    model, weights = reader(args, common, renamed(state, _NORM_PARTS, where), where)
    found = Found(f"asteroid {name}", model, weights, gain=() if model["name"] == "dcunet" else Found.gain)
    if absent:
        said = ", ".join(f"{key}={value}" for key, value in absent.items())
        found.notes.append(f"not stated in the file, so asteroid's own defaults hold: {said}")
    _history(raw, found)
    return found


def _history(raw: Mapping[str, Any], found: Found) -> None:
    """Take over what a published file says of data, licences, authors and scores."""
    held = raw.get("infos")
    infos: Mapping[str, Any] = held if isinstance(held, Mapping) else {}
    found.training_data = " ".join(plain(raw[key]) for key in ("dataset", "task") if raw.get(key))
    licences = raw.get("licenses")
    rows = [row for row in licences if isinstance(row, Mapping)] if isinstance(licences, (list, tuple)) else []
    found.licence = "; ".join(_licence(row) for row in rows)
    people = [plain(row["author"]) for row in rows if row.get("author")]
    found.credits = "; ".join(dict.fromkeys([*map(plain, filter(None, [infos.get("uploader")])), *people]))
    versions = infos.get("software_versions")
    if isinstance(versions, Mapping):
        found.versions = {plain(k).removesuffix("_version"): plain(v) for k, v in versions.items()}
    metrics = infos.get("final_metrics")
    if isinstance(metrics, Mapping):
        found.scores = [
            {"metric": plain(key), "value": float(value), "data": found.training_data,
             "protocol": "stated in the file, not measured by usep"}
            for key, value in metrics.items() if isinstance(value, (int, float)) and abs(value) < 1e9
        ]  # fmt: skip


def _licence(row: Mapping[str, Any]) -> str:
    said = plain(row.get("license", row.get("licence", ""))) or "unstated"
    return f"{said}{', non-commercial' if row.get('non_commercial') else ''} ({plain(row.get('title', 'untitled'))})"


_Reader = Callable[
    [Mapping[str, Any], dict[str, Any], "Mapping[str, Tensor]", str], tuple[dict[str, Any], "dict[str, Tensor]"]
]
_READERS: dict[str, tuple[dict[str, Any], _Reader]] = {
    "ConvTasNet": (nets.CONVTASNET, nets.convtasnet),
    "DPRNNTasNet": (nets.DPRNN, nets.dprnn),
    "DPTNet": (nets.DPTNET, nets.dptnet),
    "LSTMTasNet": (small.LSTM, small.lstm),
    "SuDORMRFNet": (small.SUDORMRF, small.sudormrf),
    "SuDORMRFImprovedNet": (small.IMPROVED, small.improved),
    "DCUNet": (complex_nets.DCUNET, complex_nets.dcunet),
    "DCCRNet": (complex_nets.DCCRNET, complex_nets.dccrnet),
}
