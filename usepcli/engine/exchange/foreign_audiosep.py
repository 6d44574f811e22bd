"""AudioSep as its makers publish it: a checkpoint of Lightning, or the state on the Hub, of a network and a CLAP.

ss_model.* is the separator, query_encoder.model.* the CLAP that it learned with, of which the text tower is taken
(foreign_tower.py). What is dropped by name: kernels of the transforms, which are made again; the norm and the offset
of each decoder block that its class makes and never uses; and the CLAP's ears.

The class has its sizes written into it; shapes tell all but hop and rate, of which both published networks (32 kHz and
the baseline of DCASE 2024 at 16 kHz) have a hundred hops in a second and 5/32 of the window in a hop.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange import foreign_tower
from usepcli.engine.exchange.foreign_parts import Found, Stated, plain, rate_of, renamed, size
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput, UsageError

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "AudioSep"
CODE = "MIT"
_KNOWN = "base.bn0.weight"
_OWN = "ss_model."
_FILES = (r"[^/]*audiosep[^/]*\.ckpt", r"[^/]*\.ckpt", r"pytorch_model\.bin", r"model\.safetensors")
_HOPS_A_SECOND = 100
_DEEPEST = 12  # levels
_DROPPED = (
    r"base\.(?:stft|istft)\..+", r"base\.decoder_block\d+\.bn2\..+", r"film\.decoder_block\d+->beta2\..+",
)  # fmt: skip


def _block(theirs: str, film: str, ours: str) -> list[tuple[str, str]]:
    """Return the rules of a residual block."""
    return [
        (rf"base\.{theirs}\.shortcut\.(.+)", rf"{ours}.shortcut.\1"),
        *(
            rule
            for number, step in ((1, "first"), (2, "second"))
            for rule in (
                (rf"base\.{theirs}\.bn{number}\.(.+)", rf"{ours}.{step}.norm.\1"),
                (rf"base\.{theirs}\.conv{number}\.(.+)", rf"{ours}.{step}.conv.\1"),
                (rf"film\.{film}->beta{number}\.(.+)", rf"{ours}.{step}.told.\1"),
            )
        ),
    ]


def _rules(levels: int) -> list[tuple[str, str]]:
    """Return the rules of a network of so many levels."""
    rules = [
        (r"base\.bn0\.(.+)", r"norm.\1"),
        (r"base\.pre_conv\.(.+)", r"inlet.\1"),
        (r"base\.after_conv\.(.+)", r"head.\1"),
        *_block(rf"conv_block{levels + 1}a\.conv_block1", rf"conv_block{levels + 1}a->conv_block1", "middle"),
    ]
    for k in range(levels):
        down, up = f"encoder_block{k + 1}", f"decoder_block{k + 1}"
        rules += _block(rf"{down}\.conv_block1", f"{down}->conv_block1", f"encoder.{k}")
        rules += [
            (rf"base\.{up}\.bn1\.(.+)", rf"decoder.{k}.widen.norm.\1"),
            (rf"base\.{up}\.conv1\.(.+)", rf"decoder.{k}.widen.conv.\1"),
            (rf"film\.{up}->beta1\.(.+)", rf"decoder.{k}.widen.told.\1"),
        ]
        rules += _block(rf"{up}\.conv_block2", f"{up}->conv_block2", f"decoder.{k}.block")
    return rules


def _file(source: Source) -> str:
    return source.weights(*_FILES)


def knows(source: Source) -> bool:
    """Return whether a file, or the first that may be one of a folder, holds such a network."""
    file = _file(source)
    return bool(file) and any(name in source.tensors(file) for name in (_KNOWN, _OWN + _KNOWN))


def read(source: Source, stated: Stated) -> Found:
    """Return settings from shapes, the network and its text tower; UsageError without a folder of the tokenizer."""
    if stated.mask or stated.blocks:
        raise UsageError(f"{source.where}: states its own settings; leave --mask and --blocks out")
    file = _file(source)
    where, whole = source.at(file), source.state(file)
    reads = {name: value for name, value in whole.items() if name.startswith(foreign_tower.OWN)}
    rest = {name.removeprefix(_OWN): value for name, value in whole.items() if name not in reads}
    model, state = _network(rest, where)
    model |= {"sample_rate": _rate(source, stated, model, where), "conditioner": "clap"}
    found = Found("AudioSep", model, state, gain=())
    foreign_tower.take(found, reads, stated.text, where)
    return found


def _network(theirs: dict[str, Tensor], where: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings, without a rate, and weights; BadInput for a tensor without a place."""
    levels = len({m[1] for name in theirs if (m := re.match(r"base\.encoder_block(\d+)\.", name))})
    if not 1 <= levels <= _DEEPEST:
        raise BadInput(f"{where}: {levels} blocks in the encoder; expected 1 to {_DEEPEST}")
    state = renamed(theirs, _rules(levels), where, _DROPPED)
    ups = [size(state, f"decoder.{k}.widen.conv.weight", where, 4) for k in reversed(range(levels))]
    steps = [shape[2:] for shape in ups]
    halved = steps.count((2, 2))
    if steps != [(2, 2)] * halved + [(1, 2)] * (levels - halved):
        raise BadInput(f"{where}: levels put together by {steps}; expected (2, 2) of the outer and (1, 2) of the inner")
    window = 2 * (size(state, "norm.weight", where, 1)[0] - 1)
    if window < 32 or window % 32:
        raise BadInput(f"{where}: base.bn0 has {window // 2 + 1} bins; expected one more than a multiple of 16")
    return {
        "name": "res_unet", "n_fft": window, "hop": 5 * window // 32, "time_levels": halved,
        "channels": [size(state, f"encoder.{k}.second.conv.weight", where, 4)[0] for k in range(levels)],
        "emb_dim": size(state, "middle.first.told.weight", where, 2)[1],
    }, state  # fmt: skip


def _rate(source: Source, stated: Stated, model: dict[str, Any], where: str) -> int:
    """Return the rate in Hz; BadInput where a settings file states one at which the hop is not known."""
    usual = _HOPS_A_SECOND * int(model["hop"])
    config = source.first(r"[^/]*audiosep[^/]*\.yaml", r"config\.yaml")
    data = source.yaml(config).get("data") if config else None
    said = data.get("sampling_rate") if isinstance(data, dict) else None
    rate = rate_of(usual if said is None else said, stated, source.at(config) if config else where)
    if rate != usual:
        raise BadInput(
            f"{source.at(config)}: sampling_rate is {plain(said)}, and a window of {model['n_fft']} is known with "
            f"{usual} alone; no file tells the hop of another"
        )
    return rate
