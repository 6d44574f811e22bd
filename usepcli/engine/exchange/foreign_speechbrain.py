"""SepFormer as SpeechBrain publishes it: a folder of hyperparams.yaml, encoder.ckpt, masknet.ckpt and decoder.ckpt.

The three files are plain state dicts; hyperparams.yaml says in HyperPyYAML what they were built with. It is read as
text: nothing that it names is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from usepcli.engine.exchange.foreign_parts import Found, Stated, count, plain, rate_of, renamed, single_tap, size, whole
from usepcli.engine.exchange.foreign_source import Source
from usepcli.engine.exchange.foreign_text import TAG, resolved
from usepcli.errors import BadInput

ABOUT = "SpeechBrain's SepFormer"
CODE = "Apache-2.0"

_PARTS = ("encoder", "masknet", "decoder")
_LAYER = (
    ("self_att.att.in_proj_", "qkv."), ("self_att.att.out_proj.", "out."), ("pos_ffn.ffn.0.", "wide."),
    ("pos_ffn.ffn.3.", "narrow."), ("norm1.norm.", "first."), ("norm2.norm.", "second."),
)  # fmt: skip


def _path(theirs: str, ours: str) -> list[tuple[str, str]]:
    """Return the rules of the stacks along one axis of the chunks."""
    at = rf"masknet\.dual_mdl\.(\d+)\.{theirs}_"
    layer = rf"{at}mdl\.mdl\.layers\.(\d+)\."
    return [
        *((rf"{layer}{re.escape(part)}(.+)", rf"{ours}.\1.stack.layers.\2.{to}\3") for part, to in _LAYER),
        (rf"{at}mdl\.mdl\.norm\.norm\.(.+)", rf"{ours}.\1.stack.norm.\2"),
        (rf"{at}norm\.(.+)", rf"{ours}.\1.norm.\2"),
    ]


_RULES = (
    (r"encoder\.conv1d\.weight", "basis.encoder.weight"),
    (r"decoder\.weight", "basis.decoder.weight"),
    (r"masknet\.norm\.(.+)", r"inlet.0.\1"),
    (r"masknet\.conv1d\.weight", "inlet.1.weight"),
    *_path("intra", "within"),
    *_path("inter", "across"),
    (r"masknet\.prelu\.weight", "bend.weight"),
    (r"masknet\.conv2d\.(.+)", r"spread.\1"),
    (r"masknet\.output\.0\.(.+)", r"value.\1"),
    (r"masknet\.output_gate\.0\.(.+)", r"gate.\1"),
    (r"masknet\.end_conv1x1\.weight", "head.weight"),
)
# Sines that follow from the sizes.
_BUFFERS = (r"masknet\.dual_mdl\.\d+\.(?:intra|inter)_mdl\.pos_enc\.pe",)
_TAPS = (r"(?:spread|value|gate|head)\.weight",)

# What usep's network is, and the file has to agree with; what its constructors take for what it does not say.
_STACK = {
    "use_positional_encoding": (True, False), "norm_before": (True, False), "activation": ("relu", "relu"),
    "attention_type": ("regularMHA", "regularMHA"),
}  # fmt: skip
_NET = {
    "norm": ("ln", "ln"), "skip_around_intra": (True, True), "linear_layer_after_inter_intra": (False, True),
    "use_global_pos_enc": (False, False),
}  # fmt: skip


def knows(source: Source) -> bool:
    """Return whether a folder has the three files beside settings."""
    return "hyperparams.yaml" in source.names and {f"{part}.ckpt" for part in _PARTS} <= set(source.names)


def read(source: Source, stated: Stated) -> Found:
    """Return settings from hyperparams.yaml, weights from the three files; BadInput if usep's network is another."""
    where = source.at("hyperparams.yaml")
    settings = source.yaml("hyperparams.yaml")
    encoder, net = (_called(settings, kind, where) for kind in ("dual_path.Encoder", "dual_path.Dual_Path_Model"))
    stacks = [_stack(settings, net, path, where) for path in ("intra_model", "inter_model")]
    if stacks[0] != stacks[1]:
        raise BadInput(f"{where}: intra_model and inter_model have different settings, which usep's have not")
    _agrees(net, _NET, where)
    decoder = _called(settings, "dual_path.Decoder", where)
    kernel = whole(where, "kernel_size of the encoder", encoder.get("kernel_size", 2), 2)
    model = {
        "name": "sepformer", "n_src": whole(where, "num_spks", net.get("num_spks", 2), 1),
        "sample_rate": rate_of(resolved(settings, settings.get("sample_rate"), where), stated, where),
        "padding": "none",
        "filters": whole(where, "in_channels", net.get("in_channels"), 1), "kernel": kernel, "stride": kernel // 2,
        "dim": whole(where, "out_channels", net.get("out_channels"), 1),
        "repeats": whole(where, "num_layers", net.get("num_layers", 1), 1),
        "chunk": whole(where, "K", net.get("K", 200), 2, 10_000), **stacks[0],
    }  # fmt: skip
    stride = whole(where, "stride of the decoder", decoder.get("stride", 1), 1)
    if stride != kernel // 2:
        raise BadInput(f"{where}: the decoder's stride is {stride}, half the encoder's kernel is {kernel // 2}")
    theirs = {f"{part}.{name}": t for part in _PARTS for name, t in source.state(f"{part}.ckpt").items()}
    state = single_tap(renamed(theirs, _RULES, source.where, _BUFFERS), _TAPS)
    _same(model, state, source.where)
    return Found("SpeechBrain SepFormer", model, state)


def _same(model: Mapping[str, Any], state: Mapping[str, Any], where: str) -> None:
    """Compare sizes that settings and tensors both tell, before anything is built."""
    dim, outputs = model["dim"], size(state, "spread.weight", where)[0] // max(1, model["dim"])
    for key, said, found in (
        ("num_spks", model["n_src"], outputs), ("num_layers of the model", model["repeats"], count(state, "within")),
        ("num_layers of a stack", model["layers"], count(state, "within.0.stack.layers")),
        ("out_channels", dim, size(state, "within.0.stack.norm.weight", where)[0]),
    ):  # fmt: skip
        if said != found:
            raise BadInput(f"{where}: hyperparams.yaml says {key} {said}, the weights have {found}")


def _called(settings: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
    """Return the arguments of the only part that the settings make of a class; BadInput where there is none."""
    found = [part for part in settings.values() if isinstance(part, dict) and _tag(part).endswith(f".{kind}")]
    if len(found) != 1:
        raise BadInput(f"{where}: makes {len(found)} parts of the class {kind}; expected one, of a SepFormer")
    return {key: resolved(settings, value, where) for key, value in found[0].items()}


def _tag(part: Mapping[str, Any]) -> str:
    return str(part.get(TAG, ""))


def _stack(settings: Mapping[str, Any], net: Mapping[str, Any], path: str, where: str) -> dict[str, int]:
    part = net.get(path)
    if not isinstance(part, dict) or not _tag(part).endswith(".dual_path.SBTransformerBlock"):
        found = plain(_tag(part) if isinstance(part, dict) else part)
        raise BadInput(f"{where}: {path} is '{found}'; usep has stacks of dual_path.SBTransformerBlock alone")
    held = {key: resolved(settings, value, where) for key, value in part.items()}
    _agrees(held, _STACK, where)
    return {
        "layers": whole(where, "num_layers", held.get("num_layers"), 1),
        "heads": whole(where, "nhead", held.get("nhead"), 1),
        "ffn": whole(where, "d_ffn", held.get("d_ffn", 2048), 1),
    }


def _agrees(held: Mapping[str, Any], wanted: Mapping[str, tuple[Any, Any]], where: str) -> None:
    for key, (value, default) in wanted.items():
        found = held.get(key, default)
        if isinstance(found, str) and found.startswith("!name:"):
            found = found.rsplit(".", 1)[1].lower()
        if found != value:
            raise BadInput(f"{where}: {key} is {plain(found)}, and usep's network has {value}")
