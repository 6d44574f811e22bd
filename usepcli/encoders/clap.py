"""CLAP from a folder as Hugging Face writes it: its text tower as conditioner, both towers as judge.

tokens = H(q) (77, D)      pooled = P_t(H(q)) / |.|      hear(x) = P_a(A(mel(x))) / |.|      scale = exp(logit_scale_a)

Wu et al., "Large-scale contrastive language-audio pretraining", ICASSP 2023. Clips are repeated to the length that
the model was trained on. Settings of the front end stand in preprocessor_config.json (transformers 4) or within
processor_config.json (transformers 5).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.logmel import LogMel, Resample, filled
from usepcli.encoders.base import Condition, Conditioner, Judge
from usepcli.encoders.lists import sha256_of
from usepcli.errors import BadInput, ConfigError, InputNotFound, MissingDependency

_WORDS = "config.json, model.safetensors and tokenizer.json (or vocab.json and merges.txt)"
_SOUND = ("preprocessor_config.json", "processor_config.json")
_LENGTH = 77  # tokens of a phrase, padding included
_AT_ONCE = 32


class Clap(Conditioner):
    """The frozen text tower of a CLAP, opened by its path and stored by path and sha256."""

    name: ClassVar[str] = "clap"
    length = _LENGTH

    def __init__(
        self,
        path: str = "",
        phrases: Sequence[str] = (),
        token_dim: int = 0,
        pooled_dim: int = 0,
        sha256: str = "",
    ) -> None:
        """Take the folder; errors, where `sha256` is not given, as of `folder_of`, and ConfigError for other widths."""
        super().__init__(path, phrases, token_dim, pooled_dim, sha256)
        self.parts: tuple[Any, Any] | None = None
        if not path:
            raise ConfigError(f"model.conditioner_path: empty; expected the folder of a CLAP with {_WORDS}")
        if not sha256:
            self._opened()

    def _opened(self) -> tuple[Any, Any]:
        """Return tokenizer and network, read from the folder the first time."""
        if self.parts is None:
            folder = folder_of(self.path)
            self.known_by(_sum_of(folder))
            tokenizer, network = _load(folder, "model.conditioner")
            network.audio_model, network.audio_projection = nn.Identity(), nn.Identity()
            self.fits(str(folder), int(network.config.text_config.hidden_size), int(network.config.projection_dim))
            self.parts = tokenizer, network
        tokenizer, network = self.parts
        return tokenizer, network.to(self._place.device)

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return 77 hidden states of each phrase, which of them are words, and its place in the shared space."""
        tokenizer, network = self._opened()
        parts = [said(tokenizer, network, phrases[at : at + _AT_ONCE]) for at in range(0, len(phrases), _AT_ONCE)]
        return Condition(*(torch.cat(found) for found in zip(*parts, strict=True)))


class ClapJudge(Judge):
    """Both frozen towers of a CLAP, by the path of its folder."""

    name: ClassVar[str] = "clap"

    def __init__(self, path: str = "", sha256: str = "") -> None:
        """Take the folder, and the sha256 that it should have where one is known; errors as of `folder_of`."""
        super().__init__()
        if not path:
            raise ConfigError(f"objective.judge_path: empty; expected the folder of a CLAP with {_WORDS}")
        folder = folder_of(path)
        self.reference, self.sha256 = path, _sum_of(folder)
        if sha256 not in ("", self.sha256):
            raise BadInput(
                f"{folder}: sha256 {self.sha256[:12]}, and {sha256[:12]} was expected; bring the former folder back"
            )
        settings = front_end(folder)
        self.tokenizer, self.network = _load(folder, "objective.judge")
        try:
            self.rate, self.samples = int(settings["sampling_rate"]), int(settings["nb_max_samples"])
            self.mel = LogMel(
                self.rate, int(settings["fft_window_size"]), int(settings["hop_length"]),
                int(settings["feature_size"]), float(settings["frequency_min"]), float(settings["frequency_max"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as fault:
            raise BadInput(f"{folder}: sound front end unfit ({fault}); expected the settings of CLAP") from fault
        self.dim = int(self.network.config.projection_dim)
        self.scale = float(self.network.logit_scale_a.detach().exp())
        self._resamplers: dict[int, Resample] = {}
        self._read: dict[str, Tensor] = {}

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        """Return (B, E) of waves (B, T) at `rate` Hz (0: its own), repeated or cut to its length at that rate."""
        given = rate or self.rate
        waves = filled(waves, -(-self.samples * given // self.rate))
        if given != self.rate:
            if given not in self._resamplers:
                self._resamplers[given] = Resample(given, self.rate)
            waves = self._resamplers[given].to(waves.device)(waves)[:, : self.samples]
        heard = self.network.audio_model(input_features=self.mel(waves)[:, None])
        return F.normalize(self.network.audio_projection(heard.pooler_output), dim=-1)

    def read(self, phrases: Sequence[str]) -> Tensor:
        """Return (Q, E) of phrases, each of them read once."""
        missing = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._read]
        for at in range(0, len(missing), _AT_ONCE):
            part = missing[at : at + _AT_ONCE]
            self._read.update(zip(part, said(self.tokenizer, self.network, part).pooled.cpu(), strict=True))
        place = next(self.network.parameters()).device
        return torch.stack([self._read[phrase] for phrase in phrases]).to(place)


@torch.no_grad()
def said(tokenizer: Any, network: Any, phrases: Sequence[str]) -> Condition:
    """Return the conditions of phrases by a CLAP's text tower, padded to 77 tokens each."""
    most = min(_LENGTH, int(network.config.text_config.max_position_embeddings) - 2)
    given = tokenizer(list(phrases), padding="max_length", truncation=True, max_length=most, return_tensors="pt")
    place = next(network.parameters()).device
    mask = given["attention_mask"].to(place)
    found = network.text_model(input_ids=given["input_ids"].to(place), attention_mask=mask)
    pooled = F.normalize(network.text_projection(found.pooler_output), dim=-1)
    return Condition(found.last_hidden_state.float(), mask.bool(), pooled.float())


def folder_of(path: str) -> Path:
    """Return the folder of a CLAP; InputNotFound where there is none, BadInput where it holds something else."""
    folder = Path(path).expanduser()
    if not folder.exists():
        raise InputNotFound(f"{folder}: no such folder; expected one with {_WORDS} (nothing is downloaded by name)")
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    words = "tokenizer.json" in there or {"vocab.json", "merges.txt"} <= there
    if not {"config.json", "model.safetensors"} <= there or not words:
        raise BadInput(f"{folder}: no CLAP; expected a folder with {_WORDS}")
    return folder


def front_end(folder: Path) -> dict[str, Any]:
    """Return the settings of a CLAP's sound front end, of either layout; BadInput where they are missing or fused."""
    where = next((folder / name for name in _SOUND if (folder / name).is_file()), None)
    if where is None:
        raise BadInput(f"{folder}: no settings of its sound front end; expected {' or '.join(_SOUND)}")
    try:
        found = json.loads(where.read_text("utf-8"))
        found = found.get("feature_extractor", found)
        found.setdefault("nb_max_samples", int(found["max_length_s"]) * int(found["sampling_rate"]))
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as fault:
        raise BadInput(f"{where}: not the settings of a CLAP's sound front end ({fault})") from fault
    if found.get("truncation") == "fusion":
        raise BadInput(f"{where}: truncation 'fusion'; only unfused CLAPs are heard ('rand_trunc')")
    return dict(found)


def _sum_of(folder: Path) -> str:
    return sha256_of([folder / "config.json", folder / "model.safetensors"])


def _load(folder: Path, key: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoTokenizer, ClapModel
    except ImportError as fault:
        raise MissingDependency(f"{key} clap needs transformers; pip install 'usepcli[clap]'") from fault
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
        if kind != "clap":
            raise ValueError(f"config.json: model_type {kind}, expected clap")
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        network = ClapModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except Exception as fault:  # its layers raise almost anything
        found = " ".join(str(fault).split())[:160] or type(fault).__name__
        raise BadInput(f"{folder}: no CLAP that can be opened ({found}); expected {_WORDS}") from fault
    return tokenizer, network.float().eval().requires_grad_(False)
