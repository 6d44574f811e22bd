"""How the tests make one small part of every registered conditioner and judge: name -> a function of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from usepcli.encoders.base import Conditioner, Judge
from usepcli.encoders.labels import Labels

PHRASES = ("a dog barks", "rain on a roof", "glass")


def labels(folder: Path) -> Conditioner:
    return Labels(phrases=PHRASES, token_dim=6, pooled_dim=5)


CONDITIONERS: dict[str, Callable[[Path], Conditioner]] = {"labels": labels}
JUDGES: dict[str, Callable[[Path], Judge]] = {}
