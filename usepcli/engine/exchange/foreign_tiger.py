"""TIGER as its authors publish it on the Hub: config.json with the constructor's arguments beside the weights.

TIGER-DnR is three networks in one file, dialog., effect. and music., of each of which its class keeps one output.
Every band has layers of its own there; bands of one width are one layer here. The selections of the coarsest
resolution, through which nothing runs, are dropped by name.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_parts import Found, Stated, numbered, rate_of, renamed, some, whole
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "TIGER for speech, TIGER-DnR"
CODE = "Apache-2.0"
_DEFAULTS = {
    "out_channels": 128, "in_channels": 512, "num_blocks": 16, "upsampling_depth": 4, "att_n_head": 4,
    "att_hid_chan": 4, "win": 2048, "stride": 512, "num_sources": 2,
}  # fmt: skip
# Of TIGER-DnR: the defaults, the networks, and which output of each is the stem it is named for.
_DNR = {
    "out_channels": 132, "in_channels": 256, "num_blocks": 8, "upsampling_depth": 5, "att_n_head": 4,
    "att_hid_chan": 4, "win": 2048, "stride": 512, "num_sources": 3,
}  # fmt: skip
_STEMS = {"dialog": 2, "effect": 1, "music": 0}
_SEGMENT_S = 12.0
_KNOWN = "separator.concat_block.0.weight"
_FILES = (r"model\.safetensors", r"pytorch_model\.bin")
_SELECT = (("local_embedding", "own"), ("global_act", "gate"), ("global_embedding", "value"))
_ASKS = (("Queries", "query"), ("Keys", "key"), ("Values", "value"))


def _of_path(theirs: str, ours: str) -> list[tuple[str, str]]:
    """Return the rules of one of the two paths."""
    block, attention = rf"separator\.{theirs}_path\.0\.", rf"separator\.{theirs}_path\.1\."
    widen, filters = f"{ours}.filters.widen", f"{ours}.filters.filters"
    summary = f"{ours}.filters.summary"
    return [
        (rf"{block}proj_1x1\.conv\.(.+)", rf"{widen}.0.\1"),
        (rf"{block}proj_1x1\.norm\.(.+)", rf"{widen}.1.\1"),
        (rf"{block}proj_1x1\.act\.(.+)", rf"{widen}.2.\1"),
        (rf"{block}spp_dw\.(\d+)\.conv\.(.+)", rf"{filters}.\1.0.\2"),
        (rf"{block}spp_dw\.(\d+)\.norm\.(.+)", rf"{filters}.\1.1.\2"),
        (rf"{block}globalatt\.fc1\.conv\.(.+)", rf"{summary}.0.\1"),
        (rf"{block}globalatt\.fc1\.norm\.(.+)", rf"{summary}.1.\1"),
        (rf"{block}globalatt\.dwconv\.(.+)", rf"{summary}.2.\1"),
        (rf"{block}globalatt\.fc2\.conv\.(.+)", rf"{summary}.5.\1"),
        (rf"{block}globalatt\.fc2\.norm\.(.+)", rf"{summary}.6.\1"),
        (rf"{block}res_conv\.(.+)", rf"{ours}.filters.narrow.\1"),
        *(
            (rf"{block}{place}\.(\d+)\.{part}\.{layer}\.(.+)", rf"{ours}.filters.{here}.\1.{to}.{number}.\2")
            for place, here in (("loc_glo_fus", "informed"), ("last_layer", "merged"))
            for part, to in _SELECT
            for number, layer in enumerate(("conv", "norm"))
        ),
        *((rf"{attention}{ask}\.(\d+)\.(.+)", rf"{ours}.attention.{to}.\2@\1") for ask, to in _ASKS),
        (rf"{attention}attn_concat_proj\.conv\.(.+)", rf"{ours}.attention.leave.0.\1"),
        (rf"{attention}attn_concat_proj\.act\.(.+)", rf"{ours}.attention.leave.1.\1"),
        (rf"{attention}attn_concat_proj\.norm\.gamma", f"{ours}.attention.leave.2.weight"),
        (rf"{attention}attn_concat_proj\.norm\.beta", f"{ours}.attention.leave.2.bias"),
        (rf"separator\.{theirs}_path\.2\.gamma", f"{ours}.norm.weight"),
        (rf"separator\.{theirs}_path\.2\.beta", f"{ours}.norm.bias"),
    ]


_RULES = (
    (r"BN\.(\d+)\.0\.(.+)", r"splits.norm.\2@\1"),
    (r"BN\.(\d+)\.1\.(.+)", r"splits.inlet.\2@\1"),
    (r"mask\.(\d+)\.0\.weight", r"joins.slope@\1"),
    (r"mask\.(\d+)\.1\.(.+)", r"joins.outlet.\2@\1"),
    *_of_path("freq", "across"),
    *_of_path("frame", "along"),
    (r"separator\.concat_block\.0\.weight", "gain"),
    (r"separator\.concat_block\.0\.bias", "shift"),
    (r"separator\.concat_block\.1\.weight", "bend.weight"),
)


def knows(source: Source) -> bool:
    """Return whether a folder has the weights of such a network beside config.json."""
    if "config.json" not in source.names or not {"num_blocks", "upsampling_depth"} <= set(source.json("config.json")):
        return False
    file = source.first(*_FILES)
    return bool(file) and any(_KNOWN in (name, name.partition(".")[2]) for name in source.tensors(file))


def read(source: Source, stated: Stated) -> Found:
    """Return settings from config.json and the weights, bands of one width together; BadInput where they disagree."""
    where, file = source.at("config.json"), source.first(*_FILES)
    config, state = source.json("config.json"), source.state(file)
    several = _KNOWN not in state
    defaults, rate = (_DNR, config.get("sample_rate", 44100)) if several else (_DEFAULTS, config.get("sample_rate"))
    args = {key: whole(where, key, config.get(key, value), 1) for key, value in defaults.items()}
    model = {
        "name": "tiger", "sample_rate": rate_of(rate, stated, where),
        "n_src": args["num_sources"], "n_fft": args["win"], "win": args["win"], "hop": args["stride"],
        "window": "hann", "edges": "reflect", "dim": args["out_channels"], "hidden": args["in_channels"],
        "blocks": args["num_blocks"], "depth": args["upsampling_depth"], "heads": args["att_n_head"],
        "key": args["att_hid_chan"], "dropout": 0.0,
    }  # fmt: skip
    if several:
        if args["num_sources"] != len(_STEMS):
            raise BadInput(
                f"{where}: num_sources is {args['num_sources']}; expected {len(_STEMS)}, one for each of its networks "
                f"{', '.join(_STEMS)}"
            )
        model |= {
            "name": "tiger_stems", "stems": list(_STEMS), "takes": list(_STEMS.values()), "segment_s": _SEGMENT_S,
            "widths": "sound",
        }  # fmt: skip
        return Found("TIGER-DnR", model, _several(state, model, source.at(file)), gain=())
    return Found("TIGER", model, _network(state, model, source.at(file)), gain=())


def _several(state: dict[str, Tensor], model: dict[str, Any], where: str) -> dict[str, Tensor]:
    """Return the tensors of all networks; BadInput for those of none, and for a network without any."""
    parts: dict[str, dict[str, Tensor]] = {stem: {} for stem in _STEMS}
    others = []
    for name, tensor in state.items():
        stem, _, rest = name.partition(".")
        if stem in parts:
            parts[stem][rest] = tensor
        else:
            others.append(name)
    lacking = [stem for stem, held in parts.items() if not held]
    if others or lacking:
        raise BadInput(
            f"{where}: tensors of no network: {some(others) or 'none'}; networks without tensors: "
            f"{some(lacking) or 'none'}; expected {', '.join(_STEMS)} alone"
        )
    return {
        f"nets.{k}.{key}": tensor
        for k, (stem, held) in enumerate(parts.items())
        for key, tensor in _network(held, model, f"{where}, {stem}").items()
    }


def _network(state: dict[str, Tensor], model: dict[str, Any], where: str) -> dict[str, Tensor]:
    """Return the tensors of one network in our names and shapes."""
    unheard = rf"separator\.(?:freq|frame)_path\.0\.loc_glo_fus\.{model['depth'] - 1}\..+"
    return _together(renamed(state, _RULES, where, (unheard,)), model, where)


def _together(state: dict[str, Tensor], model: dict[str, Any], where: str) -> dict[str, Tensor]:
    """Return the state with bands of one width, and heads, in one tensor each."""
    from usepcli.models.tiger import band_widths

    out, parts = numbered(state)
    widths = band_widths(model["win"] // 2 + 1, model["sample_rate"], model.get("widths", "speech"))
    lacking = [key for key, held in parts.items() if key.startswith(("splits.", "joins.")) and len(held) != len(widths)]
    if lacking:
        found = len(parts[lacking[0]])
        raise BadInput(
            f"{where}: {found} bands; {model['sample_rate']} Hz and a window of {model['win']} make {len(widths)}"
        )
    try:
        first = 0
        for run, (_, same) in enumerate(groupby(widths)):
            last = first + len(list(same))
            for key, held in parts.items():
                if key.startswith(("splits.", "joins.")):
                    place, name = key.split(".", 1)
                    out[f"{place}.{run}.{name}"] = _bands(name, held[first:last], model["n_src"])
            first = last
        for path in ("across", "along"):
            out |= _attention(f"{path}.attention", parts)
    except (KeyError, RuntimeError, IndexError) as fault:
        raise BadInput(f"{where}: not the tensors of a TIGER network ({str(fault).splitlines()[0][:120]})") from fault
    return {name: _shaped(name, tensor) for name, tensor in out.items()}


def _bands(name: str, held: list[Tensor], n_src: int) -> Tensor:
    """Return one tensor of the layers of several bands."""
    import torch

    if name.startswith("outlet"):  # groups of channels, one for each output, are rows here
        grouped = [tensor.unflatten(0, (n_src, -1)) for tensor in held]
        return torch.cat([g[..., 0].mT if g.dim() == 4 else g for g in grouped])
    if name == "inlet.weight":
        return torch.stack([tensor[..., 0].mT for tensor in held])
    return torch.stack(held) if name == "inlet.bias" else torch.cat(held)


def _attention(at: str, parts: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """Return the projections of all heads in one, and slopes and norms by heads."""
    import torch

    out = {}
    for end in ("weight", "bias"):
        out[f"{at}.enter.{end}"] = torch.cat([t for _, to in _ASKS for t in parts[f"{at}.{to}.conv.{end}"]])
    for _, to in _ASKS:
        out[f"{at}.{to}.slope"] = torch.stack(parts[f"{at}.{to}.act.weight"])
        out[f"{at}.{to}.weight"] = torch.stack([t.flatten() for t in parts[f"{at}.{to}.norm.gamma"]])
        out[f"{at}.{to}.bias"] = torch.stack([t.flatten() for t in parts[f"{at}.{to}.norm.beta"]])
    return out


# Axes of one number that a product, a lone filter or a norm here has not, and from which axis on they go.
_SHAPED = (
    (r".+\.attention\.(?:enter|leave\.0)\.weight", 1), (r".+\.(?:informed|merged)\.\d+\.\w+\.0\.weight", 1),
    (r"gain|.+\.leave\.2\..+|(?:across|along)\.norm\..+", 0),
)  # fmt: skip


def _shaped(name: str, tensor: Tensor) -> Tensor:
    axis = next((axis for pattern, axis in _SHAPED if re.fullmatch(pattern, name)), None)
    return tensor if axis is None else tensor.flatten(axis)
