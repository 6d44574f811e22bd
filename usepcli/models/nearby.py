"""What Hybrid Demucs has within its deepest branches: recurrence in windows, and attention that fades with distance.

    Windowed:  x + W lstm(x), over windows of 200 steps each of which gives its middle
    Nearby:    x + W sum over t of w_ts v_t,  w_ts = softmax over t of (k_t q_s / sqrt(D) - |t - s| d_s), t = s left out

d_s = sum over f = 1 ... 4 of f sigmoid(u_fs) / 4 is how fast a step forgets others (Défossez 2021, section 3.3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.models.dense import Dense
from usepcli.models.recurrent import Lstm

HEADS = 4
_DECAYS = 4
_ITSELF = -100.0  # score of a step for itself
_STEPS = 200
_FRESH, _FAINT = -2.0, 0.01  # first bias of u, and what its first weights are multiplied by


class Windowed(nn.Module):
    """LSTMs of two layers both ways over windows that overlap by half: (R, C, L) to the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rnn = Lstm(dim, dim, 2, True)
        self.out = Dense(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what the LSTMs make of it added."""
        length, hop = x.shape[-1], _STEPS // 2
        if length <= _STEPS:
            y: Tensor = self.out(self.rnn(x.mT)).mT
            return x + y
        count = -(-length // hop)
        windows = F.pad(x, (0, (count + 1) * hop - length)).unfold(-1, _STEPS, hop)  # (R, C, W, steps)
        found = self.out(self.rnn(windows.permute(0, 2, 3, 1).flatten(0, 1))).unflatten(0, (-1, count))
        edge = hop // 2
        # The middles of all windows, and the ends of the first and the last.
        middle = found[:, :, edge:-edge].flatten(1, 2)  # (R, W hop, C)
        whole = torch.cat([found[:, 0, :edge], middle, found[:, -1, -edge:]], 1)
        return x + whole[:, :length].mT


class Nearby(nn.Module):
    """Attention of every step to the others, the nearer the more: (R, C, L) to the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.asked = Dense(dim, 3 * dim)
        self.fade = Dense(dim, HEADS * _DECAYS)
        self.out = Dense(dim, dim)
        with torch.no_grad():
            self.fade.weight *= _FAINT
            self.fade.bias.fill_(_FRESH)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what is attended to added."""
        steps = x.mT  # (R, L, C)
        q, k, v = self.asked(steps).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (R, H, L, D) each
        rates = torch.sigmoid(self.fade(steps)).unflatten(-1, (HEADS, _DECAYS))  # (R, L, H, decays)
        fade = rates @ torch.arange(1, _DECAYS + 1, device=x.device, dtype=rates.dtype) / (2 * _DECAYS**0.5)
        at = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
        scores = q @ k.mT / q.shape[-1] ** 0.5 - (at[:, None] - at).abs() * fade.mT[..., None]  # (R, H, L, L)
        alone = torch.eye(len(at), device=x.device, dtype=torch.bool)
        heard = torch.softmax(scores.masked_fill(alone, _ITSELF), -1) @ v
        y: Tensor = self.out(heard.transpose(1, 2).flatten(2)).mT
        return x + y
