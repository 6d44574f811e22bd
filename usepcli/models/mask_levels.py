"""The encoder and the decoder of a U-Net over magnitudes, and the plane of bins and frames that they work on.

Stages in a row: Down for each level, then Up for each (models/cond_blocks.py). A stage may hear words; a network that
is not asked has none that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import warp
from usepcli.errors import ConfigError
from usepcli.models.cond_blocks import Down, Hearing, Up, Words

_MOST_LEVELS = 12


class Sizes(NamedTuple):
    """Channels of levels and output, convolutions of a residual block, attention to each other and to words.

    late: outermost levels that hear the words in the decoder, in place of the inner ones in the encoder.
    """

    widths: Sequence[int]
    head: int  # levels without attention
    out: int
    res: int
    sa: int
    heads: int
    mlp_ratio: int
    ca: int = 0
    token_dim: int = 0
    late: int = 0
    late_res: int = 0
    joined: int = 0  # numbers of the words that join the innermost level's channels


def widths(ngf: int, levels: int) -> list[int]:
    """Return the channels of each level: twice as many as of the one before, up to eight times ngf."""
    return [ngf * 2 ** min(k, 3) for k in range(levels)]


class MaskLevels(nn.Module):
    """What models over log magnitudes share; a subclass calls `lay` once and makes masks of the last stage's output."""

    into: Tensor
    back: Tensor

    def lay(self, sizes: Sizes, bins: int, log_freq: int) -> None:
        """Make all stages; log_freq: bins on a logarithmic axis that they see of `bins`, 0 for these."""
        count = len(sizes.widths)
        self.norm = nn.BatchNorm2d(1)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for k, width in enumerate(sizes.widths):
            inner = k >= sizes.head
            heard = _hearing(sizes, width, inner, inner and not sizes.late)
            self.encoder.append(Down(sizes.widths[k - 1] if k else 1, width, sizes.res, heard))
        for k in reversed(range(count)):
            inputs = sizes.widths[k] * 2 if k < count - 1 else sizes.widths[k] + sizes.joined
            heard = _hearing(sizes, inputs, False, k < sizes.late)
            outputs = sizes.widths[k - 1] if k else sizes.out
            self.decoder.append(Up(inputs, outputs, sizes.late_res if k < sizes.late else sizes.res, heard, not k))
        stages = [*self.encoder, *self.decoder]
        # The first stage that hears the words: what is before it is the same for all queries.
        asks = [k for k, stage in enumerate(stages) if stage.hearing.asks or (k == count and sizes.joined)]  # type: ignore[union-attr]
        self.first, self.joined = min([*asks, len(stages)]), sizes.joined
        self.log_freq = log_freq
        if log_freq:
            self.register_buffer("into", warp.to_log(bins, log_freq), persistent=False)
            self.register_buffer("back", warp.from_log(bins, log_freq), persistent=False)

    def plane(self, level: Tensor) -> Tensor:
        """Return what the first stage takes (B, 1, F', L') of log magnitudes (B, F, L)."""
        if self.log_freq:
            level = self.into @ level
        plane: Tensor = self.norm(_padded(level, 2 ** len(self.encoder))[:, None])
        return plane

    def bins_of(self, grid: Tensor, bins: int, frames: int) -> Tensor:
        """Return (B, N, F, L) of bins and frames from the plane (B, N, F', L')."""
        grid = _cropped(grid, self.log_freq or bins, frames)
        return self.back @ grid if self.log_freq else grid

    def run(self, x: Tensor, skips: list[Tensor], stages: range, words: Words | None) -> tuple[Tensor, list[Tensor]]:
        """Run some stages; return the last one's output and the encoder's outputs so far."""
        levels, skips = len(self.encoder), list(skips)
        for k in stages:
            if k < levels:
                x = self.encoder[k](x, words)
                skips.append(x)
                continue
            if k == levels and self.joined:
                assert words is not None
                x = torch.cat([x, words.pooled.to(x.dtype)[..., None, None].expand(-1, -1, *x.shape[2:])], 1)
            if k > levels:
                skip = skips[2 * levels - 1 - k]
                x = torch.cat([x, skip if len(skip) == len(x) else repeated(skip, len(x) // len(skip))], 1)
            x = self.decoder[k - levels](x, words)
        return x, skips


def _hearing(sizes: Sizes, width: int, attends: bool, asks: bool) -> Hearing:
    sa, ca = sizes.sa if attends else 0, sizes.ca if asks else 0
    if (sa or ca) and width % sizes.heads:
        raise ConfigError(f"model.heads: found {sizes.heads}; expected a divisor of a level's {width} channels")
    return Hearing(width, sa, ca, sizes.heads, sizes.mlp_ratio, sizes.token_dim)


def repeated(x: Tensor, count: int) -> Tensor:
    """Return (B count, ...) from (B, ...), each item `count` times in a row."""
    return x[:, None].expand(-1, count, *x.shape[1:]).flatten(0, 1)


def _padded(level: Tensor, step: int) -> Tensor:
    """Return (B, F', L') whose sides are multiples of `step`: one bin or frame too many is left out, else zeros."""
    rows, frames = (_kept(size, step) for size in level.shape[1:])
    level = level[:, :rows, :frames]
    return F.pad(level, (0, -frames % step, 0, -rows % step))


def _kept(size: int, step: int) -> int:
    return size - 1 if size > 1 and (size - 1) % step == 0 else size


def _cropped(grid: Tensor, rows: int, frames: int) -> Tensor:
    """Return the first rows and frames of a grid (B, N, F', L'); the last one stands for one that was left out."""
    grid = grid[..., :rows, :frames]
    return F.pad(grid, (0, frames - grid.shape[-1], 0, rows - grid.shape[-2]), mode="replicate")


def check_counts(counts: dict[str, tuple[int, int]], **levels_of: int) -> None:
    """Raise ConfigError for a count below its least, or for levels that are more than there are."""
    for key, (found, least) in counts.items():
        if found < least:
            raise ConfigError(f"model.{key}: found {found}; expected {least} or more")
    levels = counts["levels"][0]
    if levels > _MOST_LEVELS:
        raise ConfigError(
            f"model.levels: found {levels}; expected at most {_MOST_LEVELS}, which halve 4096 bins to one"
        )
    for key, found in levels_of.items():
        if not 0 <= found <= levels:
            raise ConfigError(f"model.{key}: found {found}; expected 0 to model.levels = {levels}")
