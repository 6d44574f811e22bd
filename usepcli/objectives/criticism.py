"""What a critic of adversarial PIT is shown, and what it learns from it (Postolache et al. 2023, section 2).

A critic is named by its words:
    inst_DOMAIN               one source at a time
    ctx_DOMAIN[_I][_blind]    all K sources side by side, I of the estimates (K - 1 where no number stands) replaced by
                              their references; the mixture beside them, unless the critic is blind to it
    metric_wave               Conv-TasSAN's metric predictor (Deng et al. 2020)
with DOMAIN wave, stft or mask. With s_k the references, e_k the estimates in the order P* that fits them best, and
Lambda a random choice of I sources, drawn for every example,
    real  [m,] s_1 ... s_K          fake  [m,] z_1 ... z_K,   z_k = s_k for k in Lambda, else e_k            (eq. 3)
in the domain of the critic:
    wave   the signals                                        P* minimises the loss of the profile        (eqs. 1, 2)
    stft   |M|, |S_k| and |M| R_k                             P* minimises sum_k mean | |S_k| - |E_k| |
    mask   |M|, |S_k| / sum_j |S_j| and the model's masks     P* minimises sum_k mean | R_k - E_k |
Where all references are silent a ratio of them says nothing, and each gets 1 / K: a softmax gives as much, and with 0 a
critic would know the real by silence alone. All signals stand at the level at which the network hears the mixture, of
which the paper says nothing.

    hinge           critic  mean relu(1 - D(real)) + mean relu(1 + D(fake))      separator  - mean D(fake)
    least_squares   critic  mean (D(real) - 1)^2 + mean D(fake)^2                separator  mean (D(fake) - 1)^2
    metric          critic  mean (D(s, s) - 1)^2 + mean (D(e, s) - Q)^2          separator  mean (D(e, s) - 1)^2
where Q, in 0 to 1, is the mean SI-SNR of the sounding sources, from 0 dB to METRIC_TOP_DB: our choice of a metric.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from usepcli.dsp import assign, ratios
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.models import critics
from usepcli.models.separator import SeparationModel

KINDS, DOMAINS = ("inst", "ctx", "metric"), ("wave", "stft", "mask")
BLIND = "blind"
METRIC_TOP_DB = 30.0
_FLOOR = 1e-8  # of a sum of magnitudes at unit level


class Sight(NamedTuple):
    """What a critic is shown: one source, all, or all beside the references; `replaced` is I."""

    name: str
    kind: str
    domain: str
    replaced: int = 0
    mixture: bool = False

    def channels(self, n_src: int) -> int:
        """Return the number of signals side by side."""
        return {"inst": 1, "ctx": n_src + self.mixture, "metric": 2 * n_src}[self.kind]


def sight(name: str, n_src: int) -> Sight:
    """Return what the name of a critic says; ConfigError with what was found and expected."""
    where = f"objective.critics: '{name}'"
    kind, _, rest = name.partition("_")
    words = rest.split("_")
    if kind not in KINDS:
        raise ConfigError(f"{where}: {choices('kind of critic', kind, KINDS)}")
    if words[0] not in DOMAINS:
        raise ConfigError(f"{where}: {choices('domain', words[0], DOMAINS)}")
    if kind != "ctx":
        if len(words) > 1 or (kind == "metric" and words[0] != "wave"):
            raise ConfigError(f"{where}: expected {'inst_DOMAIN' if kind == 'inst' else 'metric_wave'}")
        return Sight(name, kind, words[0])
    blind = words[-1] == BLIND
    numbers = words[1 : len(words) - blind]
    if len(numbers) > 1 or not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"{where}: expected ctx_{words[0]}, then _I or nothing, then _{BLIND} or nothing")
    count = int(numbers[0]) if numbers else n_src - 1
    if not count < n_src:
        raise ConfigError(f"{where}: {count} of {n_src} sources replaced; expected 0 to {n_src - 1}")
    return Sight(name, kind, words[0], count, not blind)


def build(seen: Sight, model: SeparationModel, segment_s: float, width: float = 1.0) -> critics.Critic:
    """Return the network of a critic for segments of so many seconds, 0 for any length; ConfigError if unfit.

    width: of the published channels.
    """
    samples = round(segment_s * model.sample_rate)
    if seen.domain != "wave":
        _check_masks(seen, model)
    channels, fixed = seen.channels(model.n_src), samples > 0
    try:
        if seen.domain == "wave":
            return critics.wave(channels, samples if fixed else None, width)
        bins, frames = Domain.of(seen.domain, model, torch.zeros(1, samples or 1), None, None).mix.shape[-2:]
        return critics.spec(channels, (bins, frames) if fixed else None, width)
    except ValueError as error:
        raise ConfigError(
            f"objective.critic_s: {segment_s:g} s give {seen.name} {error}; 0 makes critics of any length"
        ) from None


def _check_masks(seen: Sight, model: SeparationModel) -> None:
    try:
        model.transform(torch.zeros(1, 1))
    except ConfigError:
        raise ConfigError(
            f"objective.critics: {seen.name} looks at spectra, and {type(model).__name__} has none; take a model on "
            "the STFT (unet_mask, conformer_mask, tdcnpp with encoder: stft) or critics of waveforms"
        ) from None


class Domain(NamedTuple):
    """Signals as a critic sees them: the mixture (B, ...), references and estimates (B, K, ...)."""

    mix: Tensor
    real: Tensor | None
    fake: Tensor | None

    @classmethod
    def of(cls, domain: str, model: SeparationModel, mix: Tensor, ref: Tensor | None, parts: Parts | None) -> Domain:
        """Return mix (B, T), references (B, K, T) and estimates in a domain; ConfigError for a model without it."""
        level = model.input_level(mix)[1]  # (B, 1)
        if domain == "wave":
            scale = level[:, None]
            return cls(mix / level, ref if ref is None else ref / scale, parts and parts.waves / scale)
        spectrum = _magnitude(model, mix / level)
        real = ref if ref is None else _magnitude(model, ref / level[:, None])
        masks = None if parts is None else _masks(parts)
        if domain == "stft":
            return cls(spectrum, real, None if masks is None else masks * spectrum[:, None])
        if real is not None:
            whole = real.sum(1, keepdim=True)
            real = torch.where(whole > _FLOOR, real / whole.clamp_min(_FLOOR), 1 / real.shape[1])
        return cls(spectrum, real, masks)


def _inner(x: Tensor) -> Tensor:
    """Return spectra without their highest bin and last frame: 256 x 1250 of ten seconds at 512 / 128."""
    return x[..., :-1, : max(1, x.shape[-1] - 1)]


def _magnitude(model: SeparationModel, wave: Tensor) -> Tensor:
    return _inner(model.transform(wave)).abs()


def _masks(parts: Parts) -> Tensor:
    assert parts.masks is not None
    return _inner(parts.masks).abs() if parts.masks.is_complex() else _inner(parts.masks)


@torch.no_grad()
def nearest(real: Tensor, fake: Tensor) -> Tensor:
    """Return for each reference (B, K, ...) the estimate (B, K) of the order with the least mean L1 distance."""
    rows = [torch.stack([(r - f).abs().flatten(1).mean(1) for f in fake.unbind(1)], 1) for r in real.unbind(1)]
    return assign.permutation(torch.stack(rows, 1))


def drawn(shape: tuple[int, int], count: int, rng: torch.Generator) -> Tensor:
    """Return (B, K) bool with `count` of K chosen in every row, all choices alike."""
    return torch.rand(shape, generator=rng).argsort(-1) < count


def replaced(real: Tensor, fake: Tensor, which: Tensor) -> Tensor:
    """Return fake (B, K, ...) with the references in place of the chosen `which` (B, K); they have no gradient."""
    return torch.where(which.view(*which.shape, *[1] * (fake.dim() - 2)), real, fake)


def shown(seen: Sight, mix: Tensor, sources: Tensor, real: Tensor) -> Tensor:
    """Return what the critic is given of sources (B, K, ...): (B, C, ...), or (B K, 1, ...) one at a time."""
    if seen.kind == "inst":
        return sources.flatten(0, 1)[:, None]
    if seen.kind == "metric":
        return torch.cat([sources, real], 1)
    return torch.cat([mix[:, None], sources], 1) if seen.mixture else sources


@torch.no_grad()
def quality(est: Tensor, ref: Tensor) -> Tensor:
    """Return Q (B,), 0 to 1, of estimates (B, K, T) in the order of their references; 1 where no source sounds."""
    ref_energy, est_energy = ratios.energy(ref), ratios.energy(est)
    cross = (est * ref).sum(-1)
    target = cross.square() / ref_energy.clamp_min(_FLOOR)
    noise = (est_energy - target).clamp_min(_FLOOR)
    share = (10 * torch.log10(target.clamp_min(_FLOOR) / noise) / METRIC_TOP_DB).clamp(0, 1)
    sounds = ref_energy > _FLOOR
    return torch.where(sounds.any(1), (share * sounds).sum(1) / sounds.sum(1).clamp_min(1), 1.0)
