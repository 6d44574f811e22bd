"""What every registered conditioner and judge keeps, on a small one that `makers` makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from usepcli import registry
from usepcli.encoders.base import Conditioner, Judge
from usepcli.errors import BadInput


def _makers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("makers", Path(__file__).with_name("makers.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKERS = _makers()
PHRASES = list(MAKERS.PHRASES)


def test_every_registered_part_has_a_maker() -> None:
    assert set(MAKERS.CONDITIONERS) == set(registry.CONDITIONERS) and set(MAKERS.JUDGES) == set(registry.JUDGES)


@pytest.fixture(scope="module", params=sorted(registry.CONDITIONERS))
def conditioner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Conditioner:
    torch.manual_seed(0)
    made: Conditioner = MAKERS.CONDITIONERS[request.param](tmp_path_factory.mktemp(request.param))
    assert made.name == request.param and isinstance(made, registry.load("conditioner", request.param))
    return made.eval()


def test_shapes_are_those_that_it_states(conditioner: Conditioner) -> None:
    tokens, mask, pooled = conditioner.encode(PHRASES)
    assert tokens.shape == (3, mask.shape[1], conditioner.token_dim) and pooled.shape == (3, conditioner.pooled_dim)
    assert mask.dtype == torch.bool and mask.any(1).all() and tokens.isfinite().all() and pooled.isfinite().all()
    assert conditioner.length in (0, mask.shape[1])


def test_a_phrase_means_the_same_beside_any_others(conditioner: Conditioner) -> None:
    tokens, mask, pooled = conditioner.encode(PHRASES)
    other = conditioner.encode([PHRASES[2], PHRASES[0], PHRASES[2]])
    for k, j in ((2, 0), (0, 1), (2, 2)):
        torch.testing.assert_close(other.pooled[j], pooled[k], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(other.tokens[j][other.mask[j]], tokens[k][mask[k]], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(pooled[0], pooled[1])


@pytest.mark.parametrize("phrases", [[], [""], ["a dog barks", " "]])
def test_nothing_asked_is_one_line(conditioner: Conditioner, phrases: list[str]) -> None:
    with pytest.raises(BadInput, match=r"empty query.*a dog barks"):
        conditioner.encode(phrases)


def test_only_what_learns_has_parameters_that_move(conditioner: Conditioner) -> None:
    moved = [p for p in conditioner.parameters() if p.requires_grad]
    assert bool(moved) == conditioner.learns
    if conditioner.learns:
        sum(part.float().square().sum() for part in conditioner.encode(PHRASES)).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moved)


def test_it_is_made_again_without_its_path_where_it_is_stored(conditioner: Conditioner) -> None:
    if not (conditioner.stored or conditioner.learns):
        assert conditioner.sha256 and conditioner.path
        return
    again = type(conditioner)(**conditioner.settled())
    again.load_state_dict(conditioner.state_dict())
    for one, other in zip(again.encode(PHRASES), conditioner.encode(PHRASES), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", sorted(registry.JUDGES))
def test_a_judge_hears_and_reads_in_one_space(name: str, tmp_path: Path) -> None:
    judge: Judge = MAKERS.JUDGES[name](tmp_path)
    assert judge.name == name and judge.scale > 0
    waves = torch.randn(2, judge.rate // 2, requires_grad=True)
    heard, read = judge.hear(waves), judge.read(PHRASES)
    assert heard.shape == (2, judge.dim) and read.shape == (3, judge.dim) and not read.requires_grad
    for vectors in (heard, read):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(vectors)), atol=1e-5, rtol=0)
    (heard @ read.T).sum().backward()
    assert waves.grad is not None and waves.grad.isfinite().all() and waves.grad.abs().sum() > 0
    assert all(p.grad is None for p in judge.parameters())
