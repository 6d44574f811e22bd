"""SepReformer as its authors publish it: a folder with configs.yaml, and under log a state beside that of a training.

    configs.yaml                            config: dataset: sampling_rate; model: the constructor's arguments
    log/scratch_weights/epoch.0180.pth      {epoch, model_state_dict, optimizer_state_dict, ...}; the last epoch counts

The heads and decoders of the coarser stages, which only a training asks, are dropped by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_parts import (
    Found,
    Stated,
    numbered,
    plain,
    rate_of,
    renamed,
    single_tap,
    size,
    whole,
)
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput, UsageError

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "SepReformer of its authors"
CODE = "Apache-2.0"
_FILE = r"[^/]+\.(\d+)\.pth"
_FEED = (
    (r"net1\.0\.(.+)", "norm"), (r"net1\.1\.(.+)", "wide"), (r"depthwise\.(.+)", "filter"),
    (r"net2\.2\.(.+)", "narrow"), (r"Layer_scale\.layer_(scale)", "gain"),
)  # fmt: skip
_ATTENTION = (
    (r"layer_norm\.(.+)", "norm", ""), (r"linear_q\.(.+)", "qkv", "@0"), (r"linear_k\.(.+)", "qkv", "@1"),
    (r"linear_v\.(.+)", "qkv", "@2"), (r"linear_out\.(.+)", "out", ""), (r"Layer_scale\.layer_(scale)", "gain", ""),
)  # fmt: skip
_NEAR = (
    (r"layer_norm\.(.+)", "inlet.0"), (r"linear1\.(.+)", "inlet.1"), (r"dw_conv_1d\.(.+)", "filter"),
    (r"linear2\.(.+)", "wide"), (r"BN\.(.+)", "norm"), (r"linear3\.1\.(.+)", "narrow"),
    (r"Layer_scale\.layer_(scale)", "gain"),
)  # fmt: skip


def _named(place: str, end: str = r"\2") -> str:
    """Return our name of a tensor; a gain is one itself."""
    return place if place.endswith("gain") else f"{place}.{end}"


def _of_round(theirs: str, ours: str, number: int) -> list[tuple[str, str]]:
    """Return the rules of one round of a stage; `theirs` holds the stage's number as a group."""
    far, near = rf"{theirs}g_block_{number}\.block\.", rf"{theirs}l_block_{number}\.block\."
    among, at = rf"{theirs}spk_attn_{number}\.", number - 1
    apart = {"qkv": "attention.qkv", "out": "attention.out"}
    return [
        *(
            (rf"{far}ega\.block\.self_attn\.{a}", _named(f"{ours}far.{at}.{apart.get(b, b)}") + c)
            for a, b, c in _ATTENTION
        ),
        (rf"{far}ega\.block\.linear\.([01])\.(.+)", rf"{ours}far.{at}.gate.\2.\3"),
        *((rf"{near}cla\.{a}", _named(f"{ours}near.{at}.{b}")) for a, b in _NEAR),
        *((rf"{among}self_attn\.{a}", _named(f"{ours}among.{at}.{b}") + c) for a, b, c in _ATTENTION),
        *((rf"{far}gcfn\.{a}", _named(f"{ours}far.{at}.feed.{b}")) for a, b in _FEED),
        *((rf"{near}gcfn\.{a}", _named(f"{ours}near.{at}.feed.{b}")) for a, b in _FEED),
        *((rf"{among}feed_forward\.{a}", _named(f"{ours}among.{at}.feed.{b}")) for a, b in _FEED),
    ]


_RULES = (
    (r"audio_encoder\.conv1d\.weight", "basis.encoder.weight"),
    (r"audio_decoder\.weight", "basis.decoder.weight"),
    (r"feature_projector\.norm\.(.+)", r"inlet.0.\1"),
    (r"feature_projector\.conv1d\.weight", "inlet.1.weight"),
    (r"separator\.pos_emb\.pe_k\.weight", "keys.weight"),
    *(rule for number in (1, 2) for rule in _of_round(r"separator\.enc_stages\.(\d+)\.", r"down.\1.", number)),
    *(rule for number in (1, 2) for rule in _of_round(r"separator\.(bottleneck_G)\.", r"down.\1.", number)),
    *(rule for number in (1, 2, 3) for rule in _of_round(r"separator\.dec_stages\.(\d+)\.", r"up.\1.", number)),
    (r"separator\.enc_stages\.(\d+)\.downconv\.down_conv\.(.+)", r"halve.\1.filter.\2"),
    (r"separator\.enc_stages\.(\d+)\.downconv\.BN\.(.+)", r"halve.\1.norm.\2"),
    (r"separator\.spk_split_block\.linear\.([02])\.(.+)", r"splits.0.body.\1.\2"),
    (r"separator\.spk_split_block\.norm\.(.+)", r"splits.0.norm.\1"),
    (r"separator\.spk_split_blocks\.(\d+)\.linear\.([02])\.(.+)", r"splits.\1.body.\2.\3"),
    (r"separator\.spk_split_blocks\.(\d+)\.norm\.(.+)", r"splits.\1.norm.\2"),
    (r"separator\.simple_fusion\.(\d+)\.(.+)", r"fuse.\1.\2"),
    (r"out_layer\.end_conv1x1\.([02])\.(.+)", r"head.\1.\2"),
)
_UNHEARD = (r"(?:out_layer_bn|decoder_bn)\..+", r".+\.BN\.num_batches_tracked")
_TAPS = (r"splits\.\d+\.body\.[02]\.weight", r"fuse\.\d+\.weight")


def _file(source: Source) -> str:
    """Return the state of the last epoch, '' for none."""
    found = [(int(m[1]), name) for name in source.names if (m := re.fullmatch(rf"(?:.*/)?{_FILE}", name))]
    return max(found)[1] if found else ""


def knows(source: Source) -> bool:
    """Return whether configs.yaml beside weights speaks of such a network."""
    if "configs.yaml" not in source.names or not _file(source):
        return False
    model = _within(source.yaml("configs.yaml"), "config", "model")
    return {"module_separator", "module_output_layer"} <= set(model)


def _within(told: Any, *keys: str) -> dict[str, Any]:
    """Return the mapping that lies under some keys, {} where none does."""
    for key in keys:
        told = told.get(key) if isinstance(told, Mapping) else None
    return dict(told) if isinstance(told, Mapping) else {}


def read(source: Source, stated: Stated) -> Found:
    """Return settings from configs.yaml and shapes, and the weights; BadInput for a tensor without a place."""
    file, told = _file(source), source.yaml("configs.yaml")
    where, at = source.at(file), source.at("configs.yaml")
    if stated.mask or stated.blocks:
        raise UsageError(f"{at}: states its own settings; leave --mask and --blocks out")
    state = _joined(renamed(source.state(file), _RULES, where, _UNHEARD), where)
    theirs = _within(told, "config", "model")
    encoder = _within(theirs, "module_audio_enc")
    filters, _, kernel = size(state, "basis.encoder.weight", where, 3)
    dim = size(state, "inlet.1.weight", where, 3)[0]
    reach, head = size(state, "keys.weight", where, 2)
    stages = len({name.split(".")[1] for name in state if name.startswith("up.")})
    model = {
        "name": "sepreformer", "n_src": whole(at, "num_spks", theirs.get("num_spks"), 1),
        "sample_rate": rate_of(_within(told, "config", "dataset").get("sampling_rate"), stated, at),
        "input_norm": "none", "filters": filters, "kernel": kernel,
        "stride": whole(at, "stride", encoder.get("stride"), 1, kernel), "dim": dim, "heads": dim // max(1, head),
        "stages": stages, "near": size(state, "down.0.near.0.filter.weight", where, 2)[1],
        "taps": size(state, "halve.0.filter.weight", where, 3)[2], "reach": reach // 2,
        "splits": "each" if "splits.1.norm.weight" in state else "shared", "dropout": 0.0,
    }  # fmt: skip
    if whole(at, "num_stages", theirs.get("num_stages"), 1) != stages:
        raise BadInput(f"{where}: weights of {stages} stages, but configs.yaml speaks of {plain(theirs['num_stages'])}")
    return Found("SepReformer", model, state)


def _joined(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the state with queries, keys and values in one matrix, and without axes of one number."""
    import torch

    depth = len({name.split(".")[1] for name in state if name.startswith("halve.")})
    rest, parts = numbered(state)
    if odd := [name for name, held in parts.items() if len(held) != 3 or len({part.shape for part in held}) > 1]:
        raise BadInput(f"{where}: not the query, key and value of one attention at '{plain(odd[0])}'")
    found = rest | {name: torch.cat(held) for name, held in parts.items()}
    out = {}
    for name, tensor in single_tap(found, _TAPS).items():
        name = name.replace("down.bottleneck_G.", f"down.{depth}.")
        lone = name.endswith(".filter.weight") and not name.startswith("halve.")
        out[name] = tensor.flatten(1) if lone else tensor.flatten() if name.endswith(".gain") else tensor
    return out
