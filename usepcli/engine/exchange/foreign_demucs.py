"""Demucs of its authors: a bag in YAML beside its networks, or one network, in safetensors or in their own package.

    NAME.yaml    models: [SIG, ...]    weights: [[one for each source], ...], equal ones if not said    segment: seconds
    SIG.safetensors    metadata klass, args and kwargs (JSON) of the constructor
    SIG-CHECKSUM.th    the same as a torch file, {klass, args, kwargs, state}

Of a bag, all networks have to be alike. What its authors do not take for an argument of the class they drop, too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_parts import Found, Stated, plain, rate_of, renamed, single_tap, some, whole
from usepcli.engine.exchange.foreign_source import Source, checked, metadata, unwrapped
from usepcli.errors import BadInput, UsageError

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "Hybrid Transformer Demucs (htdemucs)"
CODE = "MIT"
_FILE = r"[0-9a-f]{8}(?:-[0-9a-f]{8})?\.(?:safetensors|th)"
_KLASS = "demucs.htdemucs.HTDemucs"

# Arguments of the constructor that are sizes here, with what they are without a word.
_SIZES = {
    "channels": ("width", 48), "growth": ("growth", 2), "nfft": ("n_fft", 4096), "depth": ("depth", 4),
    "stride": ("stride", 4), "dconv_comp": ("compress", 8), "dconv_depth": ("branches", 2),
    "bottom_channels": ("bottleneck", 0), "t_layers": ("layers", 5), "t_heads": ("heads", 8),
    "t_hidden_scale": ("ffn", 4),
}  # fmt: skip
# Those that have one value here, and what they are without a word where that is another.
_ONE = {
    "audio_channels": 2, "cac": True, "rewrite": True, "kernel_size": 8, "context": 1, "context_enc": 0,
    "dconv_mode": 3, "t_emb": "sin", "t_norm_in": True, "t_norm_in_group": False, "t_group_norm": False,
    "t_norm_first": True, "t_norm_out": True, "t_max_period": 10000.0, "t_layer_scale": True, "t_gelu": True,
    "t_weight_pos_embed": 1.0, "t_sin_random_shift": 0, "t_sparse_self_attn": False, "t_sparse_cross_attn": False,
    "t_cross_first": False,
}  # fmt: skip
_UNSAID = {"dconv_mode": 1}
_TONES = 2.0  # weight of the vectors of bins in our network

_ENDS = {"self_attn.out_proj": "out", "cross_attn.out_proj": "out", "linear1": "wide", "linear2": "narrow"}
_LAYERS = r"crosstransformer\.layers"


def _of_attention() -> list[tuple[str, str]]:
    """Return the rules of the transformer; norms bear other numbers in layers that cross."""
    rules = []
    for side, ours in (("", "of_bins"), ("_t", "of_steps")):
        at, to = rf"{_LAYERS}{side}\.(\d+)\.", rf"cross.{ours}.\1."
        odd = rf"{_LAYERS}{side}\.(\d*[13579])\."
        rules += [
            (rf"{at}(?:self|cross)_attn\.in_proj_(weight|bias)", rf"{to}asked.\2"),
            *((rf"{at}{re.escape(a)}\.(.+)", rf"{to}{b}.\2") for a, b in _ENDS.items()),
            (rf"{at}norm1\.(.+)", rf"{to}first.\2"), (rf"{odd}norm2\.(.+)", rf"{to}other.\2"),
            (rf"{at}norm[23]\.(.+)", rf"{to}second.\2"), (rf"{at}norm_out\.(.+)", rf"{to}last.\2"),
            (rf"{at}gamma_1\.scale", rf"{to}heard"), (rf"{at}gamma_2\.scale", rf"{to}thought"),
        ]  # fmt: skip
    return rules


def _of_levels() -> list[tuple[str, str]]:
    """Return the rules of both U-Nets."""
    rules = []
    for side, ours in (("", "spectrum"), ("t", "waveform")):
        for way, here in (("encoder", "down"), ("decoder", "up")):
            at, to = rf"{side}{way}\.(\d+)\.", rf"{ours}_{here}.\1."
            rules += [
                (rf"{at}conv(?:_tr)?\.(.+)", rf"{to}conv.\2"), (rf"{at}rewrite\.(.+)", rf"{to}mix.\2"),
                (rf"{at}dconv\.layers\.(\d+)\.6\.scale", rf"{to}branches.layers.\2.gain"),
                (rf"{at}dconv\.layers\.(\d+)\.([0-4]\..+)", rf"{to}branches.layers.\2.body.\3"),
            ]  # fmt: skip
    return rules


_RULES = (
    *_of_levels(),
    (r"freq_emb\.embedding\.weight", "tones"),
    (r"channel_upsampler\.(.+)", r"inlets.0.\1"),
    (r"channel_upsampler_t\.(.+)", r"inlets.1.\1"),
    (r"channel_downsampler\.(.+)", r"outlets.0.\1"),
    (r"channel_downsampler_t\.(.+)", r"outlets.1.\1"),
    (r"crosstransformer\.norm_in\.(.+)", r"cross.inlets.0.\1"),
    (r"crosstransformer\.norm_in_t\.(.+)", r"cross.inlets.1.\1"),
    *_of_attention(),
)


def knows(source: Source) -> bool:
    """Return whether files are named as such a bag is, or one file says that it is such a network."""
    if not source.single:
        return bool(source.first(_FILE) and source.first(r"[^/]+\.yaml"))
    if source.single.endswith(".safetensors"):
        return metadata(source.path(source.single), source.where).get("klass", "").startswith("demucs.")
    return {"klass", "args", "kwargs", "state"} <= source.raw(source.single).keys()


def read(source: Source, stated: Stated) -> Found:
    """Return a bag, or one network, as one model; BadInput where the networks of a bag are not alike."""
    if stated.mask or stated.blocks:
        raise UsageError(f"{source.where}: states its own settings; leave --mask and --blocks out")
    if source.single:
        names, weights, segment = [source.single], None, None
    else:
        names, weights, segment = _bag(source)
    nets = [_network(source, name, stated) for name in names]
    for name, (settings, _) in zip(names, nets, strict=True):
        if odd := [key for key, value in settings.items() if value != nets[0][0][key]]:
            raise BadInput(
                f"{source.at(name)}: {odd[0]} is {plain(settings[odd[0]])}, in {names[0]} {plain(nets[0][0][odd[0]])}; "
                "expected networks of one kind in a bag; import each by itself"
            )
    model = {"name": "htdemucs", **nets[0][0], "bag": len(nets), "weights": weights}
    if segment is not None and 0 < segment < model["segment_s"]:
        model["segment_s"] = segment
    state = {f"nets.{k}.{key}": value for k, (_, held) in enumerate(nets) for key, value in held.items()}
    return Found("HTDemucs" + (f", a bag of {len(nets)}" if len(nets) > 1 else ""), model, state, gain=())


def _bag(source: Source) -> tuple[list[str], list[list[float]] | None, float | None]:
    """Return the files of a bag, their weights and the longest segment, the last two None where not said."""
    tables = [name for name in source.names if name.endswith(".yaml") and "/" not in name]
    if len(tables) > 1:
        raise BadInput(f"{source.where}: {len(tables)} bags ({some(tables)}); expected the folder of one")
    told, where = source.yaml(tables[0]), source.at(tables[0])
    listed = told.get("models")
    if not isinstance(listed, list) or not 1 <= len(listed) <= 100:
        raise BadInput(f"{where}: models is {plain(listed)[:60]!r}; expected a list of names of networks")
    names = [source.first(rf"{re.escape(str(sig))}(?:-[0-9a-f]{{8}})?\.(?:safetensors|th)") for sig in listed]
    if lacking := [str(sig) for sig, name in zip(listed, names, strict=True) if not name]:
        raise BadInput(f"{where}: no file of network {some(lacking)}; expected {lacking[0]}.safetensors beside it")
    rows, segment = told.get("weights"), told.get("segment")
    if rows is not None and not (isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
        raise BadInput(f"{where}: weights is {plain(rows)[:60]!r}; expected a list of numbers for each network")
    weights = None if rows is None else [[_number(where, "weights", one) for one in row] for row in rows]
    return names, weights, None if segment is None else _number(where, "segment", segment)


def _network(source: Source, name: str, stated: Stated) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights of one file."""
    where = source.at(name)
    klass, args, kwargs, state = _package(source, name)
    if klass != _KLASS:
        raise BadInput(f"{where}: a network of {plain(klass)}; usep has {_KLASS} alone")
    if args:
        kwargs = {"sources": args[0], **kwargs}
    if len(args) > 1:
        raise BadInput(f"{where}: {len(args)} arguments without names; expected the sources alone")
    model = _settings(kwargs, stated, where)
    tones = _number(where, "freq_emb", kwargs.get("freq_emb", 0.2))
    return model, _renamed(state, tones * _number(where, "emb_scale", kwargs.get("emb_scale", 10)), where)


def _package(source: Source, name: str) -> tuple[str, list[Any], dict[str, Any], dict[str, Tensor]]:
    """Return class, arguments, named arguments and tensors in a file."""
    where = source.at(name)
    if name.endswith(".th"):
        raw = source.raw(name)
        klass = getattr(raw.get("klass"), "named", raw.get("klass"))
        args, kwargs, held = raw.get("args"), raw.get("kwargs"), raw.get("state")
    else:
        said = metadata(source.path(name), where)
        try:
            klass, args, kwargs = said.get("klass"), json.loads(said["args"]), json.loads(said["kwargs"])
        except (ValueError, KeyError, RecursionError) as fault:
            raise BadInput(
                f"{where}: its metadata lacks the constructor's arguments (klass, args, kwargs); take the file as its "
                "makers publish it"
            ) from fault
        held = None if "structure" in said else source.tensors(name)
    if held is None or (isinstance(held, Mapping) and "__quantized" in held):
        raise BadInput(f"{where}: packed weights (DiffQ), which usep does not read; take the bag that is not quantized")
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, Mapping):
        raise BadInput(
            f"{where}: args and kwargs are no arguments of a constructor; take the file as its makers publish it"
        )
    return str(klass), list(args), dict(kwargs), checked(unwrapped(held), where)


def _settings(kwargs: Mapping[str, Any], stated: Stated, where: str) -> dict[str, Any]:
    """Return our settings from the constructor's arguments; BadInput for one that has no counterpart here."""
    for key, one in _ONE.items():
        found = kwargs.get(key, _UNSAID.get(key, one))
        one = 2 * kwargs.get("stride", 4) if key == "kernel_size" else one
        if found != one:
            raise BadInput(f"{where}: {key} is {plain(found)[:60]!r}; usep has networks with {one!r} alone")
    model = {ours: whole(where, key, kwargs.get(key, usual)) for key, (ours, usual) in _SIZES.items()}
    if kwargs.get("multi_freqs") or kwargs.get("channels_time") not in (None, model["width"]):
        raise BadInput(f"{where}: multi_freqs or channels_time is set; usep has networks without either alone")
    if whole(where, "norm_starts", kwargs.get("norm_starts", 4)) < model["depth"]:
        raise BadInput(f"{where}: norm_starts lies below depth; usep has networks without these norms alone")
    names = kwargs.get("sources")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{where}: sources is {plain(names)[:60]!r}; expected a list of names")
    segment = _number(where, "segment", kwargs.get("segment", 10)) if kwargs.get("use_train_segment", True) else 0.0
    return {
        **model, "stems": [plain(name).lower() for name in names], "n_src": len(names), "segment_s": segment,
        "sample_rate": rate_of(kwargs.get("samplerate", 44100), stated, where),
    }  # fmt: skip


def _number(where: str, key: str, value: object) -> float:
    """Return a finite number; a fraction is {_type: fraction, numerator, denominator}, or a text in a torch file."""
    text = getattr(value, "text", "")
    parts: list[object] = [value, 1]
    if isinstance(value, Mapping) and value.get("_type") == "fraction":
        parts = [value.get("numerator"), value.get("denominator")]
    elif match := re.fullmatch(r"(\d{1,9})/(\d{1,9})", text):
        parts = [int(match[1]), int(match[2])]
    elif text.isdecimal() and len(text) < 10:
        parts = [int(text), 1]
    top, bottom = (one if isinstance(one, (int, float)) and not isinstance(one, bool) else math.nan for one in parts)
    if not (math.isfinite(top) and math.isfinite(bottom) and bottom):
        raise BadInput(f"{where}: {key} is {plain(text or value)[:60]!r}; expected a number")
    return float(top / bottom)


def _renamed(state: dict[str, Tensor], tones: float, where: str) -> dict[str, Tensor]:
    """Return the tensors in our names; tones: by how much the vectors of bins count there."""
    found = single_tap(renamed(state, _RULES, where), (r"(?:in|out)lets\.\d\.weight",))
    if "tones" in found:
        found["tones"] = found["tones"] * (tones / _TONES)
    out = {}
    for name, tensor in found.items():
        if ".asked." not in name:
            out[name] = tensor
            continue
        # One matrix for queries, keys and values, one behind the other.
        place, end = name.split("asked.")
        third = len(tensor) // 3
        out[f"{place}query.{end}"], out[f"{place}known.{end}"] = tensor[:third], tensor[third:]
    return out
