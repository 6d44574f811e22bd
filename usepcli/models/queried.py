"""Models that separate what they are asked for: one output for each query, in the order of the queries.

    f(x, c(q_1), ..., c(q_N)) = (e_1, ..., e_N)

with x a mixture, q_n words and c(q) their condition, whatever tensors the network hears of them. Queries are bound
before anybody separates: `bound(queries)` is a SeparationModel like any other, so that chunks, channels, rates and
scores see no difference. A training gives every mixture of a batch queries of its own: `model(mix, conditions)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.errors import BadInput, ConfigError
from usepcli.models.separator import SeparationModel

# Each (B, N, ...): of N queries for each of B mixtures, or (1, N, ...): of the same N for all of them.
Conditions = tuple[Tensor, ...]
_AT_ONCE = 8  # queries that go through a network together, so that its memory does not grow with their number


class Example(NamedTuple):
    """A clip (T,) at `rate` Hz that sounds like what is asked for, and what people call it."""

    wave: Tensor
    rate: int
    label: str


class QueriedModel(nn.Module):
    """Base of the models that are asked; a subclass implements `encode` and one `estimate`, and lists PRESETS.

    `n_src` is 0: the queries say how many outputs there are.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    ordered: ClassVar[bool] = True
    on_cpu: ClassVar[bool] = False
    channels: ClassVar[int] = 1
    n_src = 0
    segment_s = 0.0

    def __init__(self, **common: Any) -> None:
        """Take the settings that all models share, as SeparationModel does, but for n_src; ConfigError as there."""
        super().__init__()
        SeparationModel(n_src=1, **common)  # refuses what does not fit together
        self.common = common
        self.sample_rate: int = common["sample_rate"]
        self.hop: int = common["hop"]
        self.causal: bool = common.get("causal", False)
        self.input_norm: str = common.get("input_norm", "none")

    def encode(self, queries: Sequence[str]) -> Conditions:
        """Return what the network hears of each of Q queries, tensors (Q, ...); subclasses implement this."""
        raise NotImplementedError

    def estimate(self, mix: Tensor, *conditions: Tensor) -> Tensor:
        """Return estimates (B, N, T) of the level-normalised mixture (B, T) for conditions (B, N, ...) of `encode`.

        Subclasses implement this or the next.
        """
        return self.estimate_parts(mix, *conditions).waves

    def estimate_parts(self, mix: Tensor, *conditions: Tensor) -> Parts:
        """Return the estimates with masks and spectrum, where the model has them."""
        if type(self).estimate is QueriedModel.estimate:
            raise NotImplementedError
        return Parts(self.estimate(mix, *conditions))

    def parts(self, mix: Tensor, conditions: Conditions, normalize: bool = True) -> Parts:
        """Return what `forward` returns as `waves`, and the masks and the spectrum that it was made from."""
        return Bound(self, conditions).parts(mix, normalize)

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T) as the masks see them; ConfigError for a model without."""
        raise ConfigError(f"loss.name: a loss in the spectrum, and {type(self).__name__} has none; take one on waves")

    def settled(self) -> dict[str, Any]:
        """Return the settings that making the model has found out, with which a stored one is made again."""
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        """The closed list of queries that it knows; () for a model that is asked in any words."""
        return ()

    def blank(self, count: int) -> Conditions:
        """Return conditions (1, count, ...) with which arithmetic and memory can be counted; words do not matter."""
        return self.conditions([("",) * count])

    def conditions(self, queries: Sequence[Sequence[str]]) -> Conditions:
        """Return the conditions (B, N, ...) of N queries for each of B mixtures; each query is encoded once.

        BadInput where there is no query, or not one number of them.
        """
        counts = {len(asked) for asked in queries}
        if len(counts) != 1 or 0 in counts:
            raise BadInput(f"{sorted(counts)} queries for the mixtures of a batch; expected one number, 1 or more")
        flat = [query for asked in queries for query in asked]
        place = {query: k for k, query in enumerate(dict.fromkeys(flat))}
        found = self.encode(list(place))
        index = torch.tensor([place[query] for query in flat], device=found[0].device)
        return tuple(part[index].unflatten(0, (len(queries), -1)) for part in found)  # (B, N, ...) each

    def forward(self, mix: Tensor, conditions: Conditions, normalize: bool = True) -> Tensor:
        """Return float32 estimates (B, N, T) at the level of the mixture, as SeparationModel does."""
        est: Tensor = Bound(self, conditions)(mix, normalize)
        return est

    def listen(self, wave: Tensor, rate: int) -> Conditions:
        """Return what the network hears of a clip (T,) at `rate` Hz that stands for a query, tensors (1, ...).

        BadInput where a model knows words alone, as here.
        """
        raise BadInput("this model knows words alone and hears no example; ask in words")

    def bound(self, queries: Sequence[str | Example]) -> Bound:
        """Return the separator of these queries, one output for each; it shares this model's weights and its mode.

        A query is words or a clip that sounds like what is meant.  BadInput without a query.
        """
        words = [query for query in queries if isinstance(query, str)]
        with torch.no_grad():
            told = iter(zip(*(part[0] for part in self.conditions([words])), strict=True) if words else ())
            found = [
                next(told) if isinstance(query, str) else tuple(part[0] for part in self.listen(query.wave, query.rate))
                for query in queries
            ]
            if not found:
                raise BadInput("no query; expected one or more")
            held = tuple(_stacked(parts)[None] for parts in zip(*found, strict=True))
        return Bound(self, held, tuple(query if isinstance(query, str) else query.label for query in queries))

    @property
    def latency_samples(self) -> int:
        """Algorithmic latency, as of SeparationModel."""
        return self.hop

    @property
    def receptive_field_samples(self) -> int | None:
        """Samples that one output sample depends on; None if that is the whole input."""
        return None

    @property
    def n_params(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def flops_per_second(self) -> float:
        """Return floating-point operations for one query in one second of audio, those of the words left out."""
        # One query alone may not be allowed (Bound), and a part of the network may run once for all of them.
        two, three = (Bound(self, self.blank(count)).flops_per_second() for count in (2, 3))
        return 2 * two - three


class Bound(SeparationModel):
    """A queried model with its queries answered: a separator of N outputs whose order they fix."""

    ordered = True

    def __init__(self, net: QueriedModel, conditions: Conditions, queries: tuple[str, ...] = ()) -> None:
        """Separate with `net` by conditions (1, N, ...), or (B, N, ...) for batches of B mixtures alone.

        BadInput for one query where the outputs are made to add up: the answer would be the mixture itself.
        """
        super().__init__(n_src=conditions[0].shape[1], **net.common)
        if self.n_src == 1 and self.consistency != "none":
            raise BadInput(
                f"one query and model.consistency '{self.consistency}': the one output would be the whole mixture; "
                "ask for two sources at least, or train with model.consistency none"
            )
        self.net, self.queries = net, queries
        self.training = net.training
        self._names = [f"condition_{k}" for k in range(len(conditions))]
        for name, condition in zip(self._names, conditions, strict=True):
            # No part of the weights: words may be asked anew.
            self.register_buffer(name, condition, persistent=False)

    def estimate(self, mix: Tensor) -> Tensor:
        """Return the estimates (B, N, T) of a mixture (B, T)."""
        return self.estimate_parts(mix).waves

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return the estimates with masks and spectrum, where the model that was asked has them."""
        held = self._held(mix)
        if self.training or self.n_src <= _AT_ONCE or self.consistency != "none":
            return self.net.estimate_parts(mix, *held)
        several = zip(*(part.split(_AT_ONCE, 1) for part in held), strict=True)
        found = [self.net.estimate_parts(mix, *some) for some in several]
        masks = [one.masks for one in found if one.masks is not None]
        waves = torch.cat([one.waves for one in found], 1)  # (B, N, T)
        return Parts(waves, torch.cat(masks, 1) if masks else None, found[0].spectrum)

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T); ConfigError as of the model that was asked."""
        return self.net.transform(wave)

    def _held(self, mix: Tensor) -> tuple[Tensor, ...]:
        held = (getattr(self, name) for name in self._names)
        return tuple(part.expand(mix.shape[0], *part.shape[1:]) for part in held)

    def again(self) -> Bound:
        """Raise TypeError: fresh weights are for the model that was asked, which is then bound anew."""
        raise TypeError("a bound model has no settings of its own; make its queried model again and bind that")

    @property
    def latency_samples(self) -> int:
        """Algorithmic latency of the model that was asked."""
        return self.net.latency_samples

    @property
    def receptive_field_samples(self) -> int | None:
        """Receptive field of the model that was asked."""
        return self.net.receptive_field_samples


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Return (Q, ...) of tensors (...) whose first sides may differ: tokens that a shorter one lacks are zeros."""
    if not parts[0].ndim:
        return torch.stack(list(parts))
    most = max(len(part) for part in parts)
    return torch.stack([torch.cat([part, part.new_zeros(most - len(part), *part.shape[1:])]) for part in parts])


Model = SeparationModel | QueriedModel
