"""Networks of Demucs' authors in our names: settings from a constructor's arguments, and the tensors.

HTDemucs is `htdemucs` here, HDemucs (version 3) `hdemucs`. What its authors do not take for an argument of the class
they drop, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_parts import Stated, numbered, one_of, plain, rate_of, renamed, single_tap, whole
from usepcli.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

KLASSES = {"demucs.htdemucs.HTDemucs": "htdemucs", "demucs.hdemucs.HDemucs": "hdemucs"}

# Arguments of the constructors that are sizes here, with what they are without a word.
_BOTH = {"channels": ("width", 48), "growth": ("growth", 2), "nfft": ("n_fft", 4096), "stride": ("stride", 4)}
_SIZES = {
    "htdemucs": {
        "depth": ("depth", 4), "dconv_comp": ("compress", 8), "dconv_depth": ("branches", 2),
        "bottom_channels": ("bottleneck", 0), "t_layers": ("layers", 5), "t_heads": ("heads", 8),
        "t_hidden_scale": ("ffn", 4),
    },
    "hdemucs": {
        "depth": ("depth", 6), "dconv_comp": ("compress", 4), "dconv_depth": ("branches", 2),
        "norm_starts": ("norm_from", 4), "norm_groups": ("groups", 4), "dconv_attn": ("core_from", 4),
    },
}  # fmt: skip
# Those that have one value here, and what they are without a word where that is another.
_ALWAYS = {"audio_channels": 2, "cac": True, "rewrite": True, "kernel_size": 8, "context": 1, "context_enc": 0}
_ONE: dict[str, dict[str, object]] = {
    "htdemucs": {
        "dconv_mode": 3, "t_emb": "sin", "t_norm_in": True, "t_norm_in_group": False, "t_group_norm": False,
        "t_norm_first": True, "t_norm_out": True, "t_max_period": 10000.0, "t_layer_scale": True, "t_gelu": True,
        "t_weight_pos_embed": 1.0, "t_sin_random_shift": 0, "t_sparse_self_attn": False,
        "t_sparse_cross_attn": False, "t_cross_first": False,
    },
    "hdemucs": {"hybrid": True, "hybrid_old": False, "time_stride": 2},
}  # fmt: skip
_UNSAID = {"dconv_mode": 1}
_WAYS = {"1": "down", "2": "up", "3": "both"}
_SEGMENT = {"htdemucs": 10, "hdemucs": 40}
_TONES = 2.0  # weight of the vectors of bins in our networks

_ENDS = {"self_attn.out_proj": "out", "cross_attn.out_proj": "out", "linear1": "wide", "linear2": "narrow"}
_LAYERS = r"crosstransformer\.layers"
# Number of the norm behind a convolution, and of that behind a mixing one, by the way of a level.
_NORMS = {"down": (("norm1", "first"), ("norm2", "second")), "up": (("norm1", "first"), ("norm2", "norm"))}


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
    """Return the rules of both U-Nets; recurrence and attention shift the numbers of what follows in a branch by 2."""
    rules = []
    for side, ours in (("", "spectrum"), ("t", "waveform")):
        for way, here in (("encoder", "down"), ("decoder", "up")):
            at, to = rf"{side}{way}\.(\d+)\.", rf"{ours}_{here}.\1."
            branch, inner = rf"{at}dconv\.layers\.(\d+)\.", rf"{to}branches.layers.\2."
            rules += [
                (rf"{at}conv(?:_tr)?\.(.+)", rf"{to}conv.\2"), (rf"{at}rewrite\.(.+)", rf"{to}mix.\2"),
                *((rf"{at}{norm}\.(.+)", rf"{to}{place}.\2") for norm, place in _NORMS[here]),
                (rf"{branch}[68]\.scale", rf"{inner}gain"),
                (rf"{branch}3\.lstm\.(.+)", rf"{inner}core.0.rnn.lstm.\3"),
                (rf"{branch}3\.linear\.(.+)", rf"{inner}core.0.out.\3"),
                *(
                    (rf"{branch}4\.{part}\.(.+)", rf"{inner}core.1.{place}")
                    for part, place in (
                        ("query", r"asked.\3@0"), ("key", r"asked.\3@1"), ("content", r"asked.\3@2"),
                        ("query_decay", r"fade.\3"), ("proj", r"out.\3"),
                    )
                ),
                (rf"{branch}5\.(.+)", rf"{inner}body.3.\3"), (rf"{branch}6\.(.+)", rf"{inner}body.4.\3"),
                (rf"{branch}([0-4]\..+)", rf"{inner}body.\3"),
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
_TAPS = (r"(?:in|out)lets\.\d\.weight", r".+\.core\.1\.\w+\.weight")


def settings(klass: str, kwargs: Mapping[str, Any], stated: Stated, where: str) -> dict[str, Any]:
    """Return our settings from the constructor's arguments; BadInput for one that has no counterpart here."""
    name = KLASSES[klass]
    for key, one in (_ALWAYS | _ONE[name]).items():
        found = kwargs.get(key, _UNSAID.get(key, one))
        one = 2 * kwargs.get("stride", 4) if key == "kernel_size" else one
        if found != one:
            raise BadInput(f"{where}: {key} is {plain(found)[:60]!r}; usep has networks with {one!r} alone")
    sizes = _BOTH | _SIZES[name]
    model = {ours: whole(where, key, kwargs.get(key, usual)) for key, (ours, usual) in sizes.items()}
    if kwargs.get("multi_freqs") or kwargs.get("channels_time") not in (None, model["width"]):
        raise BadInput(f"{where}: multi_freqs or channels_time is set; usep has networks without either alone")
    names = kwargs.get("sources")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{where}: sources is {plain(names)[:60]!r}; expected a list of names")
    segment = kwargs.get("segment", _SEGMENT[name])
    own = _htdemucs if name == "htdemucs" else _hdemucs
    return {
        "name": name, **model, **own(kwargs, model, where), "stems": [plain(name).lower() for name in names],
        "n_src": len(names), "segment_s": number(where, "segment", segment) if _alone(name, kwargs) else 0.0,
        "sample_rate": rate_of(kwargs.get("samplerate", 44100), stated, where),
    }  # fmt: skip


def _alone(name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether a network is to be given pieces of its segment's length; only HTDemucs may say no."""
    return name != "htdemucs" or bool(kwargs.get("use_train_segment", True))


def _htdemucs(kwargs: Mapping[str, Any], model: Mapping[str, int], where: str) -> dict[str, Any]:
    if whole(where, "norm_starts", kwargs.get("norm_starts", 4)) < model["depth"]:
        raise BadInput(f"{where}: norm_starts lies below depth; usep has networks without these norms alone")
    return {}


def _hdemucs(kwargs: Mapping[str, Any], model: Mapping[str, int], where: str) -> dict[str, Any]:
    if whole(where, "dconv_lstm", kwargs.get("dconv_lstm", 4)) != model["core_from"]:
        raise BadInput(f"{where}: dconv_lstm is not dconv_attn; usep has networks with both at once alone")
    return {"branched": one_of(where, "dconv_mode", str(kwargs.get("dconv_mode", 1)), _WAYS)}


def number(where: str, key: str, value: object) -> float:
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


def weights(state: dict[str, Tensor], kwargs: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """Return the tensors in our names, the vectors of bins at the weight that they have here."""
    import torch

    scale = number(where, "freq_emb", kwargs.get("freq_emb", 0.2)) * number(
        where, "emb_scale", kwargs.get("emb_scale", 10)
    )
    found, joint = numbered(renamed(state, _RULES, where))
    if odd := [name for name, parts in joint.items() if len(parts) != 3 or len({part.shape for part in parts}) > 1]:
        raise BadInput(f"{where}: not the query, key and content of one attention at '{plain(odd[0])}'")
    found = single_tap(found | {name: torch.cat(parts) for name, parts in joint.items()}, _TAPS)
    if "tones" in found:
        found["tones"] = found["tones"] * (scale / _TONES)
    out = {}
    for name, tensor in found.items():
        if ".asked." not in name or not name.startswith("cross."):
            out[name] = tensor
            continue
        # One matrix for queries, keys and values, one behind the other.
        place, end = name.split("asked.")
        third = len(tensor) // 3
        out[f"{place}query.{end}"], out[f"{place}known.{end}"] = tensor[:third], tensor[third:]
    return out
