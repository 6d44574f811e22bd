"""What asteroid's DCUNet and DCCRNet are in our names: complex U-Nets of named shapes.

Its transform follows from its sizes; the filters that a file holds of it are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange.foreign_parts import numbered, one_of, plain, renamed, whole
from usepcli.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

_ENDS = {"mask_bound": "tanh", "n_src": 1, "fb_name": "stft"}
DCUNET = {
    "architecture": "", "stft_n_filters": 1024, "stft_kernel_size": 1024, "stft_stride": 256, "fix_length_mode": None,
    **_ENDS,
}  # fmt: skip
DCCRNET = {
    "architecture": "", "stft_n_filters": 512, "stft_kernel_size": 400, "stft_stride": 100, "n_freqs": None, **_ENDS,
}  # fmt: skip

_BOUNDS = {"tanh": "tanh", "BDT": "tanh", "sigmoid": "sigmoid", "BDSS": "sigmoid", "None": "none", "UBD": "none"}
_FIXES = {"None": "pad", "pad": "pad"}


def _wide(channels: tuple[int, ...], *steps: int) -> list[list[int]]:
    """Return rows for levels behind the first of a network of 20: two of wide kernels, then narrow ones."""
    kernels = [(7, 5)] * 2 + [(5, 3)] * (len(channels) - 2)
    return [[dim, *kernel, 2, step] for dim, kernel, step in zip(channels, kernels, steps, strict=True)]


# Features, taps over bins and frames, strides over both, of every level down.
_SHAPES = {
    "DCUNet-10": [*_wide((32, 64, 64, 64, 64), 2, 2, 2, 2, 1)],
    "DCUNet-16": [*([32, 7, 5, 2, step] for step in (2, 1)), [64, 7, 5, 2, 2],
                  *([64, 5, 3, 2, step] for step in (1, 2, 1, 2, 1))],
    "DCUNet-20": [[32, 7, 1, 1, 1], [32, 1, 7, 1, 1], *_wide((64, 64, 64, 64, 64, 64, 64, 90), 2, 1, 2, 1, 2, 1, 2, 1)],
    "Large-DCUNet-20": [[45, 7, 1, 1, 1], [45, 1, 7, 1, 1],
                        *_wide((90, 90, 90, 90, 90, 90, 90, 128), 2, 1, 2, 1, 2, 1, 2, 1)],
    "mini": [[4, 7, 5, 2, 2], [8, 7, 5, 2, 2], [16, 5, 3, 2, 2]],
}  # fmt: skip
# Features of the levels back where they are not those of the way down.
_UP = {"Large-DCUNet-20": [90] * 9}
_RECURRENT = {
    "DCCRN-CL": [[dim, 5, 2, 2, 1] for dim in (16, 32, 64, 128, 128, 128)],
    "mini": [[4, 5, 2, 2, 1], [8, 5, 2, 2, 1]],
}
_PARTS = (("re_module", "real"), ("im_module", "imag"))


def _rules(shift: int, last: int) -> list[tuple[str, str]]:
    """Return the rules of networks whose levels back begin at number `shift`, the way down ending at number `last`."""
    rules = []
    for theirs, ours in _PARTS:
        number = 0 if ours == "real" else 1
        at = rf"masker\.encoders\.{last}\."
        rules += [
            (rf"masker\.encoders\.(\d+)\.conv\.{theirs}\.weight", rf"down.\1.{ours}"),
            (rf"masker\.encoders\.(\d+)\.norm\.{theirs}\.(.+)", rf"bend_down.\1.norm.\2@{number}"),
            (rf"masker\.encoders\.(\d+)\.activation\.{theirs}\.weight", rf"bend_down.\1.slopes@{number}"),
            (rf"{at}rnn\.rnns\.(\d+)\.{theirs}\.rnn\.(.+)", rf"middle.{ours}.\1.lstm.\2"),
            (rf"{at}linear\.{theirs}\.(.+)", rf"middle.out_{ours}.\1"),
            (rf"masker\.output_layer\.0\.{theirs}\.weight", f"up.{last - shift}.{ours}"),
            (rf"masker\.output_layer\.0\.{theirs}\.bias", f"up.{last - shift}.bias@{number}"),
        ]
        for k in range(last):
            rules += [
                (rf"masker\.decoders\.{k + shift}\.deconv\.{theirs}\.weight", f"up.{k}.{ours}"),
                (rf"masker\.decoders\.{k + shift}\.norm\.{theirs}\.(.+)", rf"bend_up.{k}.norm.\1@{number}"),
                (rf"masker\.decoders\.{k + shift}\.activation\.{theirs}\.weight", f"bend_up.{k}.slopes@{number}"),
            ]
    return rules


_UNHEARD = (r".+\.num_batches_tracked", r"(?:en|de)coder\.filterbank\.(?:_filters|torch_window)")


def dcunet(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights of DCUNet; a length that it refuses is filled up, as by its `pad`."""
    one_of(where, "fix_length_mode", str(args["fix_length_mode"]), _FIXES)
    rows = _shape(args, _SHAPES, where)
    model = {**_settings(args, common, rows, where), "up": _UP.get(str(args["architecture"]))}
    return model, _weights(state, _rules(0, len(rows) - 1), where)


def dccrnet(
    args: Mapping[str, Any], common: dict[str, Any], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights of DCCRNet."""
    rows = _shape(args, _RECURRENT, where)
    model = {**_settings(args, common, rows, where), "nyquist": False, "activation": "prelu", "hidden": 128}
    if args["n_freqs"] not in (None, model["n_fft"] // 2):
        raise BadInput(
            f"{where}: n_freqs is {plain(args['n_freqs'])}; expected {model['n_fft'] // 2}, half the filters"
        )
    return model, _weights(state, _rules(1, len(rows)), where)


def _shape(args: Mapping[str, Any], known: Mapping[str, list[list[int]]], where: str) -> list[list[int]]:
    name = one_of(where, "architecture", args["architecture"], {key: key for key in known})
    return known[name]


def _settings(
    args: Mapping[str, Any], common: dict[str, Any], rows: list[list[int]], where: str
) -> dict[str, Any]:  # fmt: skip
    one_of(where, "fb_name", args["fb_name"], {"stft": "stft", "STFTFB": "stft"})
    return {
        "name": "dcunet", **common, "n_fft": whole(where, "stft_n_filters", args["stft_n_filters"], 2),
        "win": whole(where, "stft_kernel_size", args["stft_kernel_size"], 2),
        "hop": whole(where, "stft_stride", args["stft_stride"], 1), "padding": "none", "layers": rows,
        "bound": one_of(where, "mask_bound", str(args["mask_bound"]), _BOUNDS),
    }  # fmt: skip


def _weights(state: Mapping[str, Tensor], rules: list[tuple[str, str]], where: str) -> dict[str, Tensor]:
    """Return the tensors with real and imaginary parts of norms, slopes and biases in one."""
    import torch

    rest, parts = numbered(renamed(state, rules, where, _UNHEARD))
    for name, held in parts.items():
        if len(held) != 2 or held[0].shape != held[1].shape:
            raise BadInput(f"{where}: not the real and the imaginary part of one layer at '{plain(name)}'")
        real, imag = held
        # Its biases are those of two layers, of which one is taken from the other.
        rest[name] = torch.cat([real - imag, real + imag] if name.endswith(".bias") and name[:3] == "up." else held)
    return rest
