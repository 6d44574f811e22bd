"""Who is winning: a critic that tells everything right, or a separator that it cannot tell from the references.

A critic is right about a pair where it says more of the reference than of the estimate, and half right where it says
the same; `accuracy` is the mean of that. Where it is always right its hinge is flat and teaches nothing; where it is
right by chance only, it has nothing to teach, or has learned nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

WON, LOST = 0.99, 0.5
LEAST_STEPS = 100  # of an epoch from which anything is concluded
IN_ROW = 2
WHY: dict[str, Callable[[str], str]] = {
    "won": lambda name: f"it has won and teaches little; lower optim.groups.{name}.lr, or replace more sources",
    "lost": lambda name: f"no more than by chance; the separator has won, or raise optim.groups.{name}.lr",
}


class Contest:
    """Keeps the accuracy of one critic over an epoch, and whether it won or lost the last ones."""

    def __init__(self) -> None:
        self._right, self._steps, self._row = 0.0, 0, {"won": 0, "lost": 0}

    def health(self, name: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return the mean scores of a batch (B,) by the critic, and its accuracy, nan where there is nothing."""
        if not real.numel():
            return dict.fromkeys((f"real_{name}", f"fake_{name}", f"accuracy_{name}"), real.new_full((), math.nan))
        right = (real > fake).float().mean() + 0.5 * (real == fake).float().mean()
        self._right, self._steps = self._right + float(right), self._steps + 1
        return {f"real_{name}": real.mean(), f"fake_{name}": fake.mean(), f"accuracy_{name}": right}

    def ended(self, name: str) -> list[str]:
        """Return a warning where this epoch and the one before had the same clear winner; begins a new epoch."""
        steps, right = self._steps, self._right / max(1, self._steps)
        self._right, self._steps = 0.0, 0
        enough = steps >= LEAST_STEPS
        for side, clear in (("won", right >= WON), ("lost", right <= LOST)):
            self._row[side] = self._row[side] + 1 if enough and clear else 0
        for side, why in WHY.items():
            if (row := self._row[side]) >= IN_ROW:
                return [
                    f"warning: critic {name} told {100 * right:.0f} % of the pairs right for {row} epochs: {why(name)}"
                ]
        return []
