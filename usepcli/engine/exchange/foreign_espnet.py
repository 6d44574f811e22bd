"""TF-GridNet and TF-Locoformer as ESPnet leaves them: config.yaml of the training beside a .pth with the state.

meta.yaml names both where ESPnet itself published the folder. The settings are read as text; the state dict has the
separator under its name, for encoder and decoder, the STFT, have no weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_parts import (
    Found,
    Stated,
    count,
    numbered,
    plain,
    rate_of,
    renamed,
    size,
    some,
    whole,
)
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "ESPnet's TF-GridNet (both versions) and TF-Locoformer"
CODE = "Apache-2.0"
_KINDS = ("tfgridnet", "tfgridnetv2", "tflocoformer")

_SHELL = (
    (r"conv\.(\d)\.(.+)", r"inlet.\1.\2"),
    (r"deconv\.(.+)", r"outlet.\1"),
)
_LOCO = tuple(
    (rf"blocks\.(\d+)\.{theirs}_path\.{part}", rf"{ours}.\1.{to}")
    for theirs, ours in (("freq", "across"), ("frame", "along"))
    for part, to in (
        # The last of their two goes before the attention.
        (r"ffn_norm\.1\.gamma", "first_norm.weight"), (r"ffn_norm\.0\.gamma", "last_norm.weight"),
        (r"ffn\.1\.conv1d\.(weight|bias)", r"first.\2_in"), (r"ffn\.1\.deconv1d\.(weight|bias)", r"first.\2_out"),
        (r"ffn\.0\.conv1d\.(weight|bias)", r"last.\2_in"), (r"ffn\.0\.deconv1d\.(weight|bias)", r"last.\2_out"),
        (r"attn_norm\.gamma", "norm.weight"), (r"attn\.qkv\.weight", "attention.qkv.weight"),
        (r"attn\.aggregate_heads\.0\.weight", "attention.out.weight"),
    )
)  # fmt: skip
_ROPE = (r"blocks\.\d+\.(?:freq|frame)_path\.attn\.rope\..*",)
_VIEWS = (("Q", "queries"), ("K", "keys"), ("V", "values"))
_GRID = (
    *(
        (rf"blocks\.(\d+)\.{theirs}_{part}", rf"blocks.\1.{ours}.{to}")
        for theirs, ours in (("intra", "across"), ("inter", "along"))
        for part, to in (
            (r"norm\.(?:weight|gamma)", "norm.weight"), (r"norm\.(?:bias|beta)", "norm.bias"),
            (r"rnn\.(.+)", r"lstm.\2"), (r"linear\.(weight|bias)", r"\2"),
        )
    ),
    # The second version has all heads in one, the first one module for each.
    *((rf"blocks\.(\d+)\.attn_conv_{v}\.(weight|bias)", rf"blocks.\1.attention.{to}.point.\2") for v, to in _VIEWS),
    *((rf"blocks\.(\d+)\.attn_norm_{v}\.(gamma|beta)", rf"blocks.\1.attention.{to}.\2") for v, to in _VIEWS),
    *((rf"blocks\.(\d+)\.attn_norm_{v}\.act\.weight", rf"blocks.\1.attention.{to}.slope") for v, to in _VIEWS),
    *(
        (rf"blocks\.(\d+)\.attn_conv_{v}_(\d+)\.{part}", rf"blocks.\1.attention.{to}.{name}@\2")
        for v, to in _VIEWS
        for part, name in (
            (r"0\.weight", "point.weight"), (r"0\.bias", "point.bias"), (r"1\.weight", "slope"),
            (r"2\.gamma", "gamma"), (r"2\.beta", "beta"),
        )
    ),
    (r"blocks\.(\d+)\.attn_concat_proj\.([01])\.(.+)", r"blocks.\1.attention.out.\2.\3"),
    (r"blocks\.(\d+)\.attn_concat_proj\.2\.(gamma|beta)", r"blocks.\1.attention.out.2.\2"),
)  # fmt: skip


def knows(source: Source) -> bool:
    """Return whether a folder has the config.yaml of such a separator."""
    config = _config(source)
    return bool(config) and source.yaml(config).get("separator") in _KINDS


def read(source: Source, stated: Stated) -> Found:
    """Return settings from config.yaml and the weights; BadInput where usep's network is another."""
    config = _config(source)
    settings, where = source.yaml(config), source.at(config)
    kind = settings["separator"]
    held = settings.get("separator_conf")
    conf: dict[str, Any] = held if isinstance(held, dict) else {}
    rate = rate_of(settings.get("sample_rate"), stated, where)
    file = _weights(source, config)
    state = source.state(file)
    if kind == "tflocoformer":
        model, weights = _locoformer(settings, conf, state, where, source.at(file))
        name = "ESPnet TF-Locoformer"
    else:
        model, weights = _gridnet(kind, conf, state, where, source.at(file))
        name = "ESPnet TF-GridNet" + " v2" * (kind == "tfgridnetv2")
    version = {"espnet": plain(settings["version"])} if settings.get("version") else {}
    gain = ("outlet.weight", "outlet.bias")
    return Found(name, model | {"sample_rate": rate}, weights, versions=version, gain=gain)


def _config(source: Source) -> str:
    if source.single:
        return ""
    named = _meta(source, "yaml_files", "train_config")
    return named or source.first(r"config\.yaml")


def _meta(source: Source, section: str, key: str) -> str:
    """Return the file that meta.yaml names, '' where there is none."""
    if "meta.yaml" not in source.names:
        return ""
    held = source.yaml("meta.yaml").get(section)
    named = plain(held.get(key, "")) if isinstance(held, dict) else ""
    return named if named in source.names else ""


def _weights(source: Source, config: str) -> str:
    if named := _meta(source, "files", "model_file"):
        return named
    folder = PurePosixPath(config).parent
    beside = [n for n in source.names if PurePosixPath(n).parent == folder and n.endswith(".pth")]
    best = [name for name in beside if ".ave" in PurePosixPath(name).name] or beside
    if len(best) != 1:
        raise BadInput(
            f"{source.where}: {len(best)} files of weights beside {config} ({some(best) or 'none'}); expected one .pth"
        )
    return best[0]


def _agrees(conf: Mapping[str, Any], wanted: Mapping[str, tuple[Any, ...]], where: str) -> None:
    """BadInput for a setting that usep's network does not have; the first of the values is the maker's default."""
    for key, values in wanted.items():
        if (found := conf.get(key, values[0])) not in values[1:]:
            raise BadInput(f"{where}: {key} is {plain(found)}, and usep's network has {values[1]}")


def _locoformer(
    settings: Mapping[str, Any], conf: Mapping[str, Any], state: Mapping[str, Tensor], where: str, at: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _agrees(settings, {"encoder": ("", "stft"), "decoder": ("", "stft")}, where)
    _agrees(conf, {
        "norm_type": ("rmsgroupnorm", "rmsgroupnorm"), "tf_order": ("ft", "ft"), "conv1d_shift": (1, 1),
        "ffn_type": ("", ["swiglu_conv1d", "swiglu_conv1d"]), "eps": (1e-5, 1e-5),
    }, where)  # fmt: skip
    hidden = conf.get("ffn_hidden_dim")
    if not isinstance(hidden, list) or len(hidden) != 2 or hidden[0] != hidden[1]:
        raise BadInput(f"{where}: ffn_hidden_dim is {plain(hidden)}; usep's network has two of one size")
    weights = renamed(state, (*_SHELL, *_LOCO), at, _ROPE)
    axes = {"weight_in": (2, 1, 0), "weight_out": (0, 2, 1)}
    for name, tensor in weights.items():
        if (order := axes.get(name.rsplit(".", 1)[-1])) and tensor.dim() == 3:
            weights[name] = tensor.permute(order)
    model = {
        "name": "tflocoformer", **_stft(settings, where), "n_src": whole(where, "num_spk", conf.get("num_spk", 2), 1),
        "dim": whole(where, "emb_dim", conf.get("emb_dim", 128), 1),
        "layers": _depth(where, conf, weights, "across"),
        "heads": whole(where, "n_heads", conf.get("n_heads", 4), 1),
        "hidden": whole(where, "ffn_hidden_dim", hidden[0], 1),
        "kernel": whole(where, "conv1d_kernel", conf.get("conv1d_kernel", 4), 1),
        "groups": whole(where, "num_groups", conf.get("num_groups", 4), 1),
        "width": size(weights, "across.0.attention.qkv.weight", at, 2)[0] // 3,
        "input_norm": "std" if _normalised(settings) else "none",
    }  # fmt: skip
    return model, weights


def _normalised(settings: Mapping[str, Any]) -> bool:
    conf = settings.get("model_conf")
    return isinstance(conf, dict) and conf.get("normalize_variance") is True


def _stft(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the transform; BadInput where encoder and decoder have two, or one that usep has not."""
    both = [settings.get(key) for key in ("encoder_conf", "decoder_conf")]
    conf = both[0]
    if not isinstance(conf, dict) or both[1] != conf:
        raise BadInput(f"{where}: encoder_conf and decoder_conf differ; expected one STFT and its inverse")
    _agrees(conf, {
        "center": (True, True), "window": ("hann", "hann"), "onesided": (True, True), "normalized": (False, False),
    }, where)  # fmt: skip
    n_fft = whole(where, "n_fft", conf.get("n_fft", 512), 2)
    win = whole(where, "win_length", conf.get("win_length") or n_fft, 1)
    return {
        "n_fft": n_fft, "win": win, "hop": whole(where, "hop_length", conf.get("hop_length", 128), 1), "window": "hann",
        "edges": "reflect",
    }  # fmt: skip


def _depth(where: str, conf: Mapping[str, Any], weights: Mapping[str, Tensor], part: str) -> int:
    said = whole(where, "n_layers", conf.get("n_layers", 6), 1)
    if said != (found := count(weights, part)):
        raise BadInput(f"{where}: n_layers is {said}, and the weights have {found} blocks")
    return said


def _gridnet(
    kind: str, conf: Mapping[str, Any], state: Mapping[str, Tensor], where: str, at: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _agrees(conf, {"window": ("hann", "hann"), "n_imics": (1, 1), "activation": ("prelu", "prelu"),
                   "eps": (1e-5, 1e-5)}, where)  # fmt: skip
    n_fft = whole(where, "n_fft", conf.get("n_fft", 128), 2)
    kernel, stride = (whole(where, k, conf.get(k, d), 1, 1000) for k, d in (("emb_ks", 4), ("emb_hs", 1)))
    keys = whole(where, "attn_approx_qk_dim", conf.get("attn_approx_qk_dim", 512), 1)
    weights = _joined(renamed(state, (*_SHELL, *_GRID), at))
    model = {
        "name": "tfgridnet", "n_src": whole(where, "n_srcs", conf.get("n_srcs", 2), 1), "n_fft": n_fft, "win": n_fft,
        "hop": whole(where, "stride", conf.get("stride", 64), 1), "window": "hann", "edges": "reflect",
        "dim": whole(where, "emb_dim", conf.get("emb_dim", 48), 1),
        "layers": _depth(where, conf, weights, "blocks"),
        "hidden": whole(where, "lstm_hidden_units", conf.get("lstm_hidden_units", 192), 1), "kernel": kernel,
        "stride": stride, "heads": whole(where, "attn_n_head", conf.get("attn_n_head", 4), 1),
        "keys": math.ceil(keys / (n_fft // 2 + 1)), "margins": kind == "tfgridnetv2", "input_norm": "sample_std",
    }  # fmt: skip
    return model, _ordered(weights, kernel, stride, kind == "tfgridnetv2", at)


def _joined(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with those of all heads in one tensor, in the order of the heads."""
    import torch

    out, heads = numbered(weights)
    for at, ordered in heads.items():
        # Gains have the axes (1, numbers, 1, bins), of all heads (1, heads, numbers, 1, bins).
        out[at] = torch.stack(ordered, 1) if at.endswith(("gamma", "beta")) else torch.cat(ordered)
    return out


def _path(last: str, tensor: Tensor, kernel: int, places: int, linear: bool) -> Tensor:
    """Return a tensor of an LSTM's path in our order: neighbours before channels, a bias for each of the places.

    linear: where neighbourhoods do not overlap the second version has a linear layer, in this order already.
    """
    if "weight_ih" in last and not linear:
        return tensor.unflatten(1, (-1, kernel)).transpose(1, 2).flatten(1)
    if last == "weight":
        return tensor.mT.unflatten(1, (kernel, -1)) if linear else tensor.mT
    if last == "bias":
        return tensor.unflatten(0, (kernel, -1)) if linear else tensor.expand(places, -1)
    return tensor


def _ordered(weights: dict[str, Tensor], kernel: int, stride: int, second: bool, where: str) -> dict[str, Tensor]:
    """Return the weights of a TF-GridNet under our names and in our order of axes; BadInput for other axes."""
    places = kernel if stride == kernel else 1
    out = {}
    for name, tensor in weights.items():
        part, last = name.rsplit(".", 1)
        try:
            if last in ("gamma", "beta"):  # (1, C, 1, F), of all heads (1, H, C, 1, F)
                name = f"{part}.{'weight' if last == 'gamma' else 'bias'}"
                value = tensor[0, ..., 0, :].mT
            elif part.endswith((".across", ".along", ".lstm")):
                value = _path(last, tensor, kernel, places, second and places > 1)
            elif part.endswith((".across.norm", ".along.norm")):
                value = tensor.flatten()
            elif part.endswith((".point", ".out.0")) and last == "weight":
                value = tensor.flatten(1)
            else:
                value = tensor
        except (IndexError, RuntimeError) as fault:
            raise BadInput(f"{where}: the tensor for {name} has the shape {tuple(tensor.shape)}") from fault
        out[name] = value
    return out
