"""One decision for all channels: what a model hears of them, and how its estimates are spread over them again.

The estimates of one guide signal give every source a power v_i(f, m) and, through its share of the channels, a
spatial covariance R_i(f) = sum_m y_i y_i^H / sum_m v_i. The channels x are then divided by the multichannel
Wiener filter y_i = v_i R_i (sum_k v_k R_k)^-1 x, twice (Nugraha, Liutkus and Vincent 2016 combine a
network and such a filter in this way). The filters add up to one, so the sources of a channel add up to it.
On 12 two-talker scenes each, the mean SI-SDRi of all channels was 9.9 dB for panned talkers, 10.9 with delays between
the channels and 7.4 in simulated rooms; channel by channel it was 6.2, 6.9 and 6.0. Masks of power, magnitude or
bounded complex ratios stayed within 0.6 dB of the latter. Letters: N sources, C channels, L samples, F bins, M frames.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli.dsp.stft import STFT

_WINDOW_S = 0.128
_BETTER = 0.1  # share of the power by which another guide must cover more than the mean does
_PASSES = 2
_SPREAD = 1e-3  # white part of every covariance: no source is taken for exactly one direction
_FLOOR = 1e-6  # of the mean power, so that silent bins have an inverse
_BINS = 64  # filtered at once, so that many channels stay within memory


def _stft(rate: int) -> STFT:
    window = 4 * max(4, round(_WINDOW_S * rate / 4))
    return STFT(window, window, window // 4, "sqrt_hann")


def guide(wave: np.ndarray, rate: int) -> np.ndarray:
    """Return what the model hears (L,) of the channels (C, L): their mean, unless too much cancels in it.

    A guide g covers the share sum min(4 |g|^2, m) / sum m of the power m, the mean over channels of |x_c|^2 in
    each bin and frame: whatever reaches a quarter of it can be told apart. Where the channels' principal
    component or the loudest channel covers clearly more than the mean, as for channels in opposite phase, it is
    the guide.
    """
    if (wave == wave[:1]).all():
        return wave[0].copy()
    mean = wave.mean(0, dtype=np.float64).astype(np.float32)
    main = np.linalg.eigh(wave.astype(np.float64) @ wave.T)[1][:, -1] @ wave / np.sqrt(len(wave))
    loudest = wave[np.square(wave, dtype=np.float64).sum(1).argmax()]
    ways = np.stack([mean, main.astype(np.float32), loudest])
    with torch.inference_mode():
        power = _power(wave, rate).mean(0)
        covered = torch.minimum(4 * _power(ways, rate), power).sum((1, 2)) / power.sum()
    best = int(covered.argmax())
    return ways[best] if covered[best] > covered[0] + _BETTER else mean


def _power(wave: np.ndarray, rate: int) -> Tensor:
    return _stft(rate)(torch.from_numpy(wave)).abs().square().double()  # (C, F, M)


def spread(sources: np.ndarray, heard: np.ndarray, wave: np.ndarray, rate: int) -> np.ndarray:
    """Return the sources (N, C, L) of channels (C, L), from those (N, L) of the guide (L,).

    Channels that are nothing but the guide at other levels get its very sources at these levels. All others are
    filtered; their sources add up to the channel, and a source that is silent in the guide is silent in all.
    """
    level = (wave.astype(np.float64) @ heard) / max(float(np.square(heard, dtype=np.float64).sum()), 1e-300)
    apart = wave - level[:, None] * heard
    if (np.square(apart).sum(1) <= 1e-10 * np.square(wave, dtype=np.float64).sum(1)).all():
        return (sources[:, None] * level[:, None]).astype(np.float32)
    stft = _stft(rate)
    with torch.inference_mode():
        channels = stft(torch.from_numpy(wave))
        scale = channels.abs().square().mean().sqrt().clamp_min(1e-30)
        loud = stft(torch.from_numpy(np.ascontiguousarray(sources))).abs()
        share = loud / loud.sum(0).clamp_min(1e-30)
        found = share[:, None] * (channels / scale)  # (N, C, F, M)
        for _ in range(_PASSES):
            found = _filtered(found, channels / scale)
        out = stft.inverse(found * scale, wave.shape[1]).numpy()
    out[~sources.any(1)] = 0
    return out


def _filtered(found: Tensor, channels: Tensor) -> Tensor:
    """Return the multichannel Wiener filter of channels (C, F, M) by the power of found (N, C, F, M)."""
    power = found.abs().square().mean(1)  # (N, F, M)
    power = F.avg_pool2d(power, 3, 1, 1, count_include_pad=False)
    floor = _FLOOR * float(power.mean())
    parts = [slice(at, at + _BINS) for at in range(0, channels.shape[1], _BINS)]
    return torch.cat([_wiener(found[:, :, p], channels[:, p], power[:, p], floor) for p in parts], dim=2)


def _wiener(found: Tensor, channels: Tensor, power: Tensor, floor: float) -> Tensor:
    y, x = found.permute(0, 2, 3, 1), channels.permute(1, 2, 0)  # (N, F, M, C), (F, M, C)
    eye = torch.eye(len(channels), dtype=y.dtype)
    spatial = torch.einsum("nfmc,nfmd->nfcd", y, y.conj()) / power.sum(-1)[..., None, None].clamp_min(1e-20)
    model = power[..., None, None] * (spatial + _SPREAD * eye)[:, :, None]  # (N, F, M, C, C)
    total = model.sum(0) + (floor + 1e-12) * eye
    out = (model @ torch.linalg.solve(total, x[..., None]))[..., 0]  # (N, F, M, C)
    # What the floor withheld goes to the sources by their power, which makes the filters add up to one.
    weight = power / power.sum(0).clamp_min(1e-30)
    weight = torch.where(power.sum(0) > 1e-30, weight, torch.full_like(weight, 1 / len(power)))
    return (out + weight[..., None] * (x - out.sum(0))).permute(0, 3, 1, 2)
