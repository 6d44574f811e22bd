"""Shuffles of estimated sources over a batch, and back: the permutations of RemixIT and Self-Remixing.

A batch shuffle moves output n of mixture b to another mixture: q'[b, n] = q[Pi[n, b], n] with R permutations
Pi[n] of the B mixtures (Saijo & Ogawa 2023, section 2.2). `constrained` asks that no pseudo-mixture takes two
outputs of one mixture (section 2.4), so that Pi is an R x B Latin rectangle; one exists if and only if B >= R.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from usepcli.errors import ConfigError, choices

if TYPE_CHECKING:  # the kinds are asked for where nothing is shuffled yet
    import torch
    from torch import Tensor

Shuffle = Literal["constrained", "free", "cyclic"]
KINDS = ("constrained", "free", "cyclic")

# Rejection finds small rectangles in a few draws; past this many it is completed by matching instead.
DRAWS = 200


def check(kind: str, batch: int, n_src: int, where: str = "objective.shuffle") -> None:
    """Raise ConfigError for an unknown kind, or where a batch is too small for n_src outputs."""
    if kind not in KINDS:
        raise ConfigError(f"{where}: {choices('shuffle', kind, KINDS)}")
    if kind != "free" and batch < n_src:
        raise ConfigError(
            f"{where}: '{kind}' needs as many mixtures as outputs, found {batch} mixtures for {n_src} outputs; "
            "raise train.batch_size, lower train.accumulate, or set it to free"
        )


def draw(kind: str, batch: int, n_src: int, rng: torch.Generator) -> Tensor:
    """Return Pi (R, B): row n is the permutation of the mixtures that output n undergoes.

    `free` draws every row on its own. `constrained` keeps the entries of each column apart, `cyclic` does so by
    distinct offsets of one random order. ConfigError where batch < n_src and the kind does not allow it.
    """
    import torch

    check(kind, batch, n_src)
    if kind == "free":
        return torch.stack([torch.randperm(batch, generator=rng) for _ in range(n_src)])
    if kind == "cyclic":
        order, offsets = torch.randperm(batch, generator=rng), torch.randperm(batch, generator=rng)[:n_src]
        place = order.argsort()
        return order[(place[None] + offsets[:, None]) % batch]
    rows: list[Tensor] = [torch.randperm(batch, generator=rng)]
    while len(rows) < n_src:
        rows.append(_next_row(torch.stack(rows), rng))
    return torch.stack(rows)


def _next_row(rows: Tensor, rng: torch.Generator) -> Tensor:
    """Return a permutation that agrees with none of rows (n, B) in any column."""
    import torch

    batch = rows.shape[1]
    for _ in range(DRAWS):
        row = torch.randperm(batch, generator=rng)
        if not bool((rows == row).any()):
            return row
    return _completed(rows, rng)


def _completed(rows: Tensor, rng: torch.Generator) -> Tensor:
    """Return such a permutation by augmenting paths over columns in random order; by Hall's theorem one exists."""
    import torch

    batch = rows.shape[1]
    taken = [set(column) for column in rows.T.tolist()]
    free = [[v for v in torch.randperm(batch, generator=rng).tolist() if v not in taken[b]] for b in range(batch)]
    owner: dict[int, int] = {}  # value -> column

    def place(column: int, seen: set[int]) -> bool:
        for value in free[column]:
            if value in seen:
                continue
            seen.add(value)
            if value not in owner or place(owner[value], seen):
                owner[value] = column
                return True
        return False

    for column in torch.randperm(batch, generator=rng).tolist():
        place(column, set())
    row = torch.empty(batch, dtype=torch.int64)
    for value, column in owner.items():
        row[column] = value
    return row


def apply(x: Tensor, order: Tensor) -> Tensor:
    """Return y[b, n] = x[Pi[n, b], n] for x (B, R, T) and Pi (R, B)."""
    return x[order.T.to(x.device), _outputs(x)]  # (B, R, T)


def restore(y: Tensor, order: Tensor) -> Tensor:
    """Return x with x[Pi[n, b], n] = y[b, n]: the inverse of `apply`, differentiable."""
    return apply(y, order.argsort(-1))


def channels(batch: int, n_src: int, rng: torch.Generator) -> Tensor:
    """Return an independent uniform order of the outputs for every mixture, (B, R)."""
    import torch

    return torch.rand(batch, n_src, generator=rng).argsort(-1)


def _outputs(x: Tensor) -> Tensor:
    import torch

    return torch.arange(x.shape[1], device=x.device)[None]
