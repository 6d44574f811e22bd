"""Optimisers that load no compiler step as torch's own do."""

from __future__ import annotations

import sys

import pytest
import torch

from usepcli.engine.training.optimisers import plain


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_the_compiler_is_not_loaded_and_every_bit_is_the_same(
    kind: type[torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(made: type[torch.optim.Optimizer]) -> tuple[torch.Tensor, torch.optim.Optimizer]:
        draw = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(5, 3, generator=draw))
        optimizer = made([weight], lr=0.1, weight_decay=0.01)
        for _ in range(4):
            optimizer.zero_grad()
            weight.grad = torch.randn(5, 3, generator=draw)
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        return weight.detach(), optimizer

    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error
    ours, made = taken(plain(kind))
    monkeypatch.undo()
    theirs, usual = taken(kind)
    assert torch.equal(ours, theirs) and isinstance(made, kind)
    assert made.state_dict()["param_groups"] == usual.state_dict()["param_groups"]
    before = ours.clone()
    torch.optim.lr_scheduler.LambdaLR(made, lambda step: 0.5)  # what counts steps finds where to
    made.step()
    assert not torch.equal(made.param_groups[0]["params"][0].detach(), before)
