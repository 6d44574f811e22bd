"""A judge of a sound tagger and a sentence encoder, joined by a linear map from the one's space into the other's.

    e(x) = [mean_p h_p, max_p h_p]       h_p: what the tagger's tower makes of patch p of the log-mel spectrum
    hear(x) = (W e(x) + b) / |.|         read(q) = (s(q) - m) / |.|       s: the sentence encoder, m: its mean phrase

The tower is that of MobileNet (Howard et al. 2017) as YAMNet has it: a convolution, then pairs of one that sees each
channel alone and one that sees each place alone. W and b come from a ridge regression onto phrases of labelled sounds.

A folder holds `tagger.json` (settings: front end, widths and strides, scale, where the sentence encoder lies),
`tower.safetensors` and `map.safetensors` (W, b, m); benchmarks/make_judge.py makes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.logmel import OffsetMel, Resample
from usepcli.encoders.base import Judge
from usepcli.encoders.lists import sha256_of
from usepcli.encoders.sentence import Sentence
from usepcli.errors import BadInput, ConfigError, InputNotFound

FILES = ("tagger.json", "tower.safetensors", "map.safetensors")
_JOINED = ("weight", "bias", "centre")
_EXPECTED = f"a folder with {', '.join(FILES)}"


class Tower(nn.Sequential):
    """(P, 1, frames, bands) to (P, width): a convolution, and pairs of a depthwise and a pointwise one."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int]) -> None:
        """Take the channels and the stride of every layer; a layer after the first one is a pair."""
        layers: list[nn.Module] = [_Conv(1, widths[0], 3, strides[0])]
        for before, width, stride in zip(widths[:-1], widths[1:], strides[1:], strict=True):
            layers += [_Conv(before, before, 3, stride, before), _Conv(before, width, 1, 1)]
        super().__init__(*layers)
        self.width = widths[-1]

    def forward(self, patches: Tensor) -> Tensor:
        """Return the mean over all places of the last layer."""
        return super().forward(patches).mean((2, 3))


class _Conv(nn.Conv2d):
    """A convolution and ReLU, padded so that stride 1 keeps the size and stride 2 halves it, what is odd at the end."""

    def __init__(self, before: int, width: int, size: int, stride: int, groups: int = 1) -> None:
        super().__init__(before, width, size, stride, groups=groups)
        around = size - stride if size > 1 else 0
        self.sides = (around // 2, around - around // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.sides)).relu()


class _Words(Sentence):
    asked_by: ClassVar[str] = "objective.judge tagger"


class TaggerJudge(Judge):
    """A frozen tagger, a frozen sentence encoder and the map between them, by the path of their folder."""

    name: ClassVar[str] = "tagger"
    weight: Tensor
    bias: Tensor
    centre: Tensor

    def __init__(self, path: str = "", sha256: str = "") -> None:
        """Take the folder, and the sha256 that it should have where one is known.

        ConfigError without a path, InputNotFound or BadInput where nothing of the kind is there.
        """
        super().__init__()
        if not path:
            raise ConfigError(f"objective.judge_path: empty; expected {_EXPECTED}")
        folder = _found(path)
        try:
            told = json.loads((folder / FILES[0]).read_text("utf-8"))
            self._build(told)
            self._fill(folder)
            words = folder / str(told["text"])
        except Exception as fault:  # a file of any content may raise anything
            said = " ".join(str(fault).split())[:160] or type(fault).__name__
            raise BadInput(f"{folder}: no tagger that can be opened ({said}); expected {_EXPECTED}") from fault
        self.text = _Words(str(words))
        if self.text.pooled_dim != self.dim:
            raise BadInput(
                f"{folder}: {FILES[2]} leads to {self.dim} numbers, and {words} gives {self.text.pooled_dim}; expected "
                "the sentence encoder that it was made with"
            )
        own = sha256_of(folder / name for name in FILES)
        self.known_by(path, hashlib.sha256((own + self.text.sha256).encode()).hexdigest(), sha256)
        self._resamplers: dict[int, Resample] = {}
        self.requires_grad_(False).eval()

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        """Return (B, E) of waves (B, T) at `rate` Hz (0: its own), with silence after them up to a whole patch."""
        return F.normalize(F.linear(self.features(waves, rate), self.weight, self.bias), dim=-1)

    def features(self, waves: Tensor, rate: int = 0) -> Tensor:
        """Return what the tower makes of waves, (B, 2 width), before the map."""
        given = rate or self.rate
        if given != self.rate:
            if given not in self._resamplers:
                self._resamplers[given] = Resample(given, self.rate)
            waves = self._resamplers[given].to(waves.device)(waves)
        frames = max(0, -(-(waves.shape[-1] - self.window) // self.mel.hop)) + 1
        patches = max(0, -(-(frames - self.frames) // self.step)) + 1
        length = self.window + self.mel.hop * (self.frames + self.step * (patches - 1) - 1)
        mel = self.mel(F.pad(waves, (0, max(0, length - waves.shape[-1]))))  # (B, L, bands)
        cut = mel.unfold(1, self.frames, self.step).mT  # (B, P, frames, bands)
        found = self.tower(cut.flatten(0, 1)[:, None]).unflatten(0, cut.shape[:2])  # (B, P, width)
        return torch.cat([found.mean(1), found.amax(1)], -1)  # (B, 2 width)

    def read(self, phrases: Sequence[str]) -> Tensor:
        """Return (Q, E) of phrases, each of them read once."""
        return F.normalize(self.text.encode(phrases).pooled - self.centre, dim=-1)

    def _build(self, told: dict[str, Any]) -> None:
        front, patch = dict(told["front_end"]), told["patch"]
        self.rate, self.window = int(front["rate"]), int(front["window"])
        self.mel = OffsetMel(**front)
        self.frames, self.step, self.scale = int(patch["frames"]), int(patch["hop"]), float(told["scale"])
        self.tower = Tower(told["widths"], told["strides"])
        if not (self.step > 0 and 0 < self.scale < float("inf")):
            raise ValueError(f"{FILES[0]}: a hop and a scale above 0 were expected")

    def _fill(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self.tower.load_state_dict(load_file(folder / FILES[1]))
        joined = load_file(folder / FILES[2])
        if set(joined) != set(_JOINED):
            raise ValueError(f"{FILES[2]}: {', '.join(sorted(joined))}; expected {', '.join(_JOINED)}")
        for name, tensor in joined.items():
            self.register_buffer(name, tensor.float(), persistent=False)
        self.dim = len(self.bias)
        width = 2 * self.tower.width
        if self.weight.shape != (self.dim, width) or self.centre.shape != self.bias.shape:
            raise ValueError(f"{FILES[2]}: weight {tuple(self.weight.shape)}, expected {(self.dim, width)}")


def _found(path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.exists():
        raise InputNotFound(f"{folder}: no such folder; expected {_EXPECTED}")
    if not all((folder / name).is_file() for name in FILES):
        raise BadInput(f"{folder}: no tagger; expected {_EXPECTED}")
    return folder
