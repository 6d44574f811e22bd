"""Models by query: what is bound is a separator like any other, and says what a batch of questions says."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from usepcli.errors import BadInput, ConfigError
from usepcli.models.queried import Conditions, QueriedModel


class Gains(QueriedModel):
    """Gives the mixture times the number that a query says, times a weight."""

    def __init__(self, **common: object) -> None:
        super().__init__(**{"sample_rate": 8000, "hop": 4, **common})
        self.weight = nn.Parameter(torch.ones(1))
        self.encoded: list[list[str]] = []

    def encode(self, queries: Sequence[str]) -> Conditions:
        self.encoded.append(list(queries))
        return torch.tensor([float(query) for query in queries]) * self.weight, torch.zeros(len(queries), 3)

    def estimate(self, mix: Tensor, *conditions: Tensor) -> Tensor:
        gains, other = conditions
        assert other.shape == (*gains.shape, 3)
        return gains[..., None] * mix[:, None]


def test_one_output_for_each_query_in_their_order() -> None:
    bound, mix = Gains().bound(["2", "0.5", "-1"]), torch.randn(4, 50)
    assert (bound.n_src, bound.sample_rate, bound.hop, bound.latency_samples) == (3, 8000, 4, 4)
    assert bound.ordered and bound.queries == ("2", "0.5", "-1")
    torch.testing.assert_close(bound(mix), torch.tensor([2, 0.5, -1])[:, None] * mix[:, None])
    assert bound(mix[0]).shape == bound(mix[:1, None]).shape == (1, 3, 50)


def test_every_mixture_of_a_batch_may_be_asked_for_something_else() -> None:
    model, mix = Gains(input_norm="mean_std"), torch.randn(2, 50) + 3
    conditions = model.conditions([["2", "1"], ["1", "-3"]])
    assert model.encoded == [["2", "1", "-3"]], "a query is encoded once"
    est = model(mix, conditions)
    for item, queries in enumerate((["2", "1"], ["1", "-3"])):
        torch.testing.assert_close(est[item], model.bound(queries)(mix[item])[0], atol=1e-5, rtol=1e-5)
    est.square().mean().backward()
    assert model.weight.grad is not None and model.weight.grad.abs() > 0


@pytest.mark.parametrize("queries", [[], [[]], [["1"], ["1", "2"]]])
def test_questions_that_make_no_batch(queries: list[list[str]]) -> None:
    with pytest.raises(BadInput, match="expected one number, 1 or more"):
        Gains().conditions(queries)


def test_the_settings_of_all_models_hold() -> None:
    mix = torch.randn(1, 64)
    torch.testing.assert_close(Gains(consistency="uniform").bound(["1", "3"])(mix).sum(1), mix)
    with pytest.raises(BadInput, match="would be the whole mixture"):
        Gains(consistency="uniform").bound(["1"])
    with pytest.raises(ConfigError, match=r"model\.consistency"):
        Gains(consistency="uniforn")
    with pytest.raises(ConfigError, match=r"model\.causal"):
        Gains(causal=True, input_norm="std")


def test_what_is_bound_shares_the_weights_and_stores_no_words() -> None:
    model = Gains()
    bound = model.bound(["1", "2"])
    assert set(bound.state_dict()) == {"net.weight"}
    twin, mix = copy.deepcopy(bound), torch.randn(1, 9)
    assert torch.equal(twin(mix), bound(mix)) and twin.net is not model
    assert bound.double().condition_0.dtype == torch.float64 and model.weight.dtype == torch.float64
    with pytest.raises(TypeError, match="bind"):
        bound.again()


def test_cost_is_that_of_one_query() -> None:
    class Product(Gains):
        def encode(self, queries: Sequence[str]) -> Conditions:
            return torch.ones(len(queries)), torch.zeros(len(queries), 3)

        def estimate(self, mix: Tensor, *conditions: Tensor) -> Tensor:
            gains = conditions[0][..., None] @ torch.ones(1, 1)  # (B, N, 1)
            return gains * (mix[:, None] @ torch.ones(mix.shape[-1], 1)) + mix[:, None]

    # One query over two seconds: a sum of 16,000 samples, which serves any number of queries, and one product.
    assert Product().flops_per_second() == (2 * 16000 + 2) / 2
