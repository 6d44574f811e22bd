"""SuDoRM-RF of its authors, improved or with group communication, as a state dict in one file.

They publish whole pickled modules, which usep does not open; where their code is installed, model.state_dict() saved
with torch.save is such a file. Sizes are read from shapes, the hop is half the kernel; the rate leaves no trace. As
their page has it, the mixture is brought to mean 0 and level 1, and outputs with group communication add up to it.
"""

from __future__ import annotations

import re

from usepcli.engine.exchange.foreign_parts import Found, Stated, count, rate_of, renamed, size
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput

ABOUT = "SuDoRM-RF of its authors (state dict)"
CODE = "NCSA"

# One U-shaped block, as asteroid has it, too.
BLOCK = (
    (r"proj_1x1\.conv\.(.+)", r"widen.0.\2"), (r"proj_1x1\.norm\.(.+)", r"widen.1.\2"),
    (r"proj_1x1\.act\.(.+)", r"widen.2.\2"), (r"spp_dw\.(\d+)\.conv\.(.+)", r"filters.\2.0.\3"),
    (r"spp_dw\.(\d+)\.norm\.(.+)", r"filters.\2.1.\3"), (r"final_norm\.norm\.(.+)", r"norm.0.\2"),
    (r"final_norm\.act\.(.+)", r"norm.1.\2"), (r"res_conv\.(.+)", r"narrow.\2"),
)  # fmt: skip
_TALK = (
    (r"TAC_input\.(\d)\.(.+)", r"enter.\2.\3"), (r"TAC_mean\.(\d)\.(.+)", r"share.\2.\3"),
    (r"TAC_output\.0\.(.+)", r"leave.\2"), (r"TAC_output\.1\.(.+)", r"bend.\2"), (r"TAC_norm\.(.+)", r"norm.\2"),
)  # fmt: skip
_RULES = (
    (r"(encoder|decoder)\.weight", r"basis.\1.weight"),
    (r"ln\.(.+)", r"inlet.0.\1"),
    (r"bottleneck\.(.+)", r"inlet.1.\1"),
    *((rf"sm\.(\d+)\.(?:UBlock\.)?{part}", rf"block.\1.{to}") for part, to in BLOCK),
    *((rf"sm\.(\d+)\.TAC\.{part}", rf"talk.\1.{to}") for part, to in _TALK),
    (r"mask_net\.(.+)", r"head.\1"),
)
# A norm of older versions, through which nothing runs.
_UNHEARD = (r"ln_mask_in\..+",)


def knows(source: Source) -> bool:
    """Return whether a single file holds such a state."""
    if not source.single:
        return False
    state = source.tensors(source.single)
    return {"encoder.weight", "ln.gamma", "mask_net.1.weight"} <= set(state) and any(
        re.fullmatch(r"sm\.0\.(UBlock\.)?proj_1x1\.conv\.weight", name) for name in state
    )


def read(source: Source, stated: Stated) -> Found:
    """Return settings from shapes and the weights; UsageError without a rate, BadInput for a tensor without a place."""
    where = source.where
    ends = ((r"(.+)\.gamma", r"\1.weight"), (r"(.+)\.beta", r"\1.bias"), (r"(.+)", r"\1"))
    state = renamed(renamed(source.state(source.single), ends, where), _RULES, where, _UNHEARD)
    filters, channels, kernel = size(state, "basis.encoder.weight", where, 3)
    if channels != 1:
        raise BadInput(f"{where}: its encoder reads {channels} channels; usep takes networks of one")
    dim = size(state, "inlet.1.weight", where, 3)[0]
    depth = len({name.split(".")[3] for name in state if re.match(r"block\.0\.filters\.", name)})
    blocks, talks = count(state, "block"), count(state, "talk")
    groups = dim // max(1, size(state, "talk.0.enter.0.weight", where, 2)[1]) if talks else 1
    model = {
        "name": "sudormrf", "n_src": size(state, "basis.decoder.weight", where, 3)[1],
        "sample_rate": rate_of(None, stated, where), "filters": filters, "kernel": kernel, "stride": kernel // 2,
        "dim": dim, "hidden": size(state, "block.0.widen.0.weight", where, 3)[0] * groups, "blocks": blocks,
        "depth": depth, "groups": groups, "input_norm": "mean_std", "consistency": "uniform" if talks else "none",
    }  # fmt: skip
    out = {}
    for name, tensor in state.items():
        kind, *rest = name.split(".", 2)
        if kind in ("block", "talk"):  # where groups talk, every block stands behind their talk
            number = int(rest[0]) * (2 if talks else 1) + (kind == "block" and talks > 0)
            taps = kind == "talk" and tensor.dim() == 2
            out[f"blocks.{number}.{rest[1]}"] = tensor[..., None] if taps else tensor
        else:
            out[name] = tensor
    return Found("SuDoRM-RF", model, out)
