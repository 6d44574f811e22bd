"""A trained audio-text model by its path, as judge and as conditioner: the folder of its run, or its file.

tokens = read(q) (1, E)      pooled = read(q)      hear and read as models/audio_text.py has them
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from usepcli.encoders.base import Condition, Conditioner, Judge
from usepcli.encoders.lists import sha256_of
from usepcli.errors import BadInput, ConfigError, InputNotFound, UsepError
from usepcli.models.audio_text import AudioText

_BEST = "best.safetensors"
_EXPECTED = f"the run folder of a model audio_text (`usep train --profile small_clap`), or its {_BEST}"


class AudioTextJudge(Judge):
    """A trained audio-text model that hears and reads, frozen."""

    name: ClassVar[str] = "audio_text"

    def __init__(self, path: str = "", sha256: str = "") -> None:
        """Take the path, and the sha256 that it should have where one is known; errors as of `opened`."""
        super().__init__()
        if not path:
            raise ConfigError(f"objective.judge_path: empty; expected {_EXPECTED}")
        self.network, found = opened(path)
        self.known_by(path, found, sha256)
        self.rate, self.dim, self.scale = self.network.rate, self.network.dim, float(self.network.scale)

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        """Return (B, E) of waves (B, T) at `rate` Hz (0: its own)."""
        return self.network.hear(waves, rate)

    @torch.no_grad()
    def read(self, phrases: Sequence[str]) -> Tensor:
        """Return (Q, E) of phrases."""
        return self.network.read(phrases)


class AudioTextWords(Conditioner):
    """The words of a trained audio-text model, frozen; stored by path and sha256."""

    name: ClassVar[str] = "audio_text"
    length = 1

    def open(self) -> None:
        """Take the path; without `sha256`, errors as of `opened`, and ConfigError for other widths."""
        self.parts: AudioText | None = None
        if not self.path:
            raise ConfigError(f"model.conditioner_path: empty; expected {_EXPECTED}")
        if not self.sha256:
            self._opened()

    def _opened(self) -> AudioText:
        if self.parts is None:
            found, sha256 = opened(self.path)
            self.known_by(sha256)
            self.fits(self.path, found.dim, found.dim)
            self.parts = found
        return self.parts.to(self._place.device)

    @torch.no_grad()
    def read(self, phrases: Sequence[str]) -> Condition:
        """Return one token for each phrase, which is the whole of it."""
        return _of(self._opened().read(phrases))

    @torch.no_grad()
    def hear(self, waves: Tensor, rate: int) -> Condition:
        """Return the same of clips (Q, T), which lie where the words for them do."""
        return _of(self._opened().hear(waves.to(self._place.device), rate))


def _of(whole: Tensor) -> Condition:
    return Condition(whole[:, None], torch.ones(len(whole), 1, dtype=torch.bool, device=whole.device), whole)


def opened(path: str) -> tuple[AudioText, str]:
    """Return the frozen model at a path, and the sha256 of its file.

    InputNotFound where there is none, BadInput where it is something else; errors of its towers as they have them.
    """
    from safetensors import safe_open

    place = Path(path).expanduser()
    if not place.exists():
        raise InputNotFound(f"{place}: no such file or folder; expected {_EXPECTED}")
    file = place / _BEST if place.is_dir() else place
    if not file.is_file():
        raise BadInput(f"{place}: no {_BEST} in it; expected {_EXPECTED}")
    try:
        with safe_open(file, framework="pt") as held:
            told: dict[str, Any] = json.loads((held.metadata() or {}).get("usep", "{}")).get("model") or {}
            state = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        if (kind := told.pop("name", "none")) != AudioTextJudge.name:
            raise ValueError(f"a model {kind}")
        settings: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
        made = AudioText(**settings)
        made.load_state_dict({key: value.float() for key, value in state.items()})
    except UsepError:
        raise
    except Exception as fault:  # a file of any content may raise anything
        said = " ".join(str(fault).split())[:160] or type(fault).__name__
        raise BadInput(f"{file}: no model audio_text ({said}); expected {_EXPECTED}") from fault
    return made.eval().requires_grad_(False), sha256_of([file])
