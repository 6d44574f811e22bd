"""MossFormer2 for separation as ClearerVoice-Studio publishes it: one torch file with the state under 'model'.

In its folder, last_best_checkpoint is a text whose first line names the file of weights. Sizes are read from shapes;
stride, group and rate leave no trace in them and are those of MossFormer2_SS_16K, the only published one.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from usepcli.engine.exchange.foreign_parts import Found, Stated, count, renamed, single_tap, size
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "ClearerVoice's MossFormer2 for separation"
CODE = "Apache-2.0"
RATE = 16000

_POINTER = "last_best_checkpoint"
_BLOCKS = r"mask_net\.mdl\.intra_mdl\.mossformerM\."
_PASS = (
    (r"mdl\.0\.g", "norm.weight"),
    (r"mdl\.0\.(weight|bias)", r"norm.\2"),
    (r"mdl\.1\.(weight|bias)", r"point.\2"),
    (r"mdl\.3\.sequential\.1\.conv\.weight", "filter.weight"),
)


def _passes(at: str, theirs: str, ours: str) -> list[tuple[str, str]]:
    return [(rf"{_BLOCKS}{at}\.(\d+)\.{theirs}\.{part}", rf"{ours}.{to}") for part, to in _PASS]


_FSMN = rf"{_BLOCKS}fsmn\.(\d+)\."
_GATED = rf"{_FSMN}gated_fsmn\.fsmn\."
_RULES = (
    (r"enc\.conv1d\.weight", "basis.encoder.weight"),
    (r"dec\.weight", "basis.decoder.weight"),
    (r"mask_net\.norm\.(.+)", r"inlet.0.\1"),
    (r"mask_net\.conv1d_encoder\.weight", "inlet.1.weight"),
    (r"mask_net\.pos_enc\.scale", "place"),
    *_passes("layers", "to_hidden", r"attention.\1.hidden"),
    *_passes("layers", "to_qk", r"attention.\1.asking"),
    *_passes("layers", "to_out", r"attention.\1.out"),
    (rf"{_BLOCKS}layers\.(\d+)\.qk_offset_scale\.gamma", r"attention.\1.gain"),
    (rf"{_BLOCKS}layers\.(\d+)\.qk_offset_scale\.beta", r"attention.\1.offset"),
    (rf"{_FSMN}conv1\.(\d)\.(.+)", r"memory.\1.inlet.\2.\3"),
    (rf"{_FSMN}norm1\.(.+)", r"memory.\1.inlet.2.\2"),
    *_passes("fsmn", r"gated_fsmn\.to_u", r"memory.\1.value"),
    *_passes("fsmn", r"gated_fsmn\.to_v", r"memory.\1.gate"),
    (rf"{_GATED}linear\.(.+)", r"memory.\1.into.0.\2"),
    (rf"{_GATED}project\.weight", r"memory.\1.into.2.weight"),
    (rf"{_GATED}conv\.norm1\.(.+)", r"memory.\1.first.\2"),
    (rf"{_GATED}conv\.prelu1\.weight", r"memory.\1.first.slope"),
    (rf"{_GATED}conv\.conv1\.weight", r"memory.\1.first.filters.weight"),
    (rf"{_GATED}conv\.norm2\.(.+)", r"memory.\1.second.\2"),
    (rf"{_GATED}conv\.prelu2\.weight", r"memory.\1.second.slope"),
    (rf"{_GATED}conv\.conv2\.weight", r"memory.\1.second.filters.weight"),
    (rf"{_FSMN}norm2\.(.+)", r"memory.\1.out.0.\2"),
    (rf"{_FSMN}conv2\.(.+)", r"memory.\1.out.1.\2"),
    (r"mask_net\.mdl\.intra_mdl\.norm\.(.+)", r"last.\1"),
    (r"mask_net\.mdl\.intra_norm\.(.+)", r"level.\1"),
    (r"mask_net\.prelu\.weight", "spread.0.weight"),
    (r"mask_net\.conv1d_out\.(.+)", r"spread.1.\1"),
    (r"mask_net\.output\.0\.(.+)", r"value.\1"),
    (r"mask_net\.output_gate\.0\.(.+)", r"gate.\1"),
    (r"mask_net\.conv1_decoder\.weight", "head.weight"),
)
# Angles that follow from the sizes.
_BUFFERS = (r"mask_net\.pos_enc\.inv_freq", rf"{_BLOCKS}layers\.\d+\.rotary_pos_emb\.freqs")
_TAPS = (r"memory\.\d+\.(?:inlet\.0|out\.1)\.weight",)
_KNOWN = "mask_net.mdl.intra_mdl.mossformerM.layers.0.qk_offset_scale.gamma"


def _file(source: Source) -> str:
    if source.single or _POINTER not in source.names:
        return source.weights(r"last_best_checkpoint\.pt")
    named = PurePosixPath(source.text(_POINTER).split("\n")[0].strip()).name
    return named if named in source.names else ""


def knows(source: Source) -> bool:
    """Return whether a file, or the one that last_best_checkpoint names, holds such a state."""
    name = _file(source)
    return bool(name) and _KNOWN in source.tensors(name)


def read(source: Source, stated: Stated) -> Found:
    """Return settings from shapes and the weights; BadInput for a tensor without a place."""
    file = _file(source)
    where = source.at(file)
    state = renamed(source.state(file), _RULES, where, _BUFFERS)
    filters, _, kernel = size(state, "basis.encoder.weight", where, 3)
    dim = size(state, "inlet.1.weight", where, 3)[0]
    model = {
        "name": "mossformer2", "n_src": size(state, "spread.1.weight", where)[0] // max(1, dim),
        "sample_rate": stated.sample_rate or RATE, "padding": "none", "filters": filters, "kernel": kernel, "dim": dim,
        "layers": count(state, "attention"), "keys": size(state, "attention.0.gain", where, 2)[1],
        "width": size(state, "memory.0.inlet.0.weight", where)[0],
        "block_kernel": size(state, "attention.0.hidden.filter.weight", where, 3)[2],
        "memory": size(state, "memory.0.first.filters.weight", where, 4)[2], "dropout": 0.0,
    }  # fmt: skip
    found = Found("ClearerVoice MossFormer2", model, single_tap(_filters(state, where), _TAPS))
    if not stated.sample_rate:
        found.notes.append(f"no file states the sample rate; {RATE} Hz is that of MossFormer2_SS_16K (--sample-rate)")
    return found


def _filters(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the state with the axes of depthwise filters dropped, and those of two channels taken apart."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(".filters.weight") and tensor.dim() == 4:
            for part in range(tensor.shape[1]):
                out[name.replace("filters.", f"filters.{part}.")] = tensor[:, part, :, 0]
        elif name.endswith(".filter.weight") and tensor.dim() == 3:
            out[name] = tensor[:, 0]
        elif name.endswith((".filter.weight", ".filters.weight")):
            raise BadInput(f"{where}: {name} has the shape {tuple(tensor.shape)}; expected depthwise filters")
        else:
            out[name] = tensor
    return out
