"""CLAP from a folder as Hugging Face writes it: its text tower, or one alone, as conditioner, both towers as judge.

tokens = H(q) (77, D)      pooled = P_t(H(q)) / |.|      hear(x) = P_a(A(mel(x))) / |.|      scale = exp(logit_scale_a)

Wu et al., "Large-scale contrastive language-audio pretraining", ICASSP 2023. Clips are repeated to the length that
the model was trained on. Settings of the front end stand in preprocessor_config.json (transformers 4) or within
processor_config.json (transformers 5).
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.logmel import LogMel, Resample, filled
from usepcli.encoders.base import Condition, Judge
from usepcli.encoders.prompts import fitting
from usepcli.encoders.templates import bare
from usepcli.encoders.towers import AT_ONCE, Tower, find, open_in, sum_of
from usepcli.errors import BadInput, ConfigError

_WORDS = "config.json, model.safetensors and tokenizer.json (or vocab.json and merges.txt)"
_SOUND = ("preprocessor_config.json", "processor_config.json")
_TEXT = "clap_text_model"  # what transformers calls a text tower alone
_UNNAMED = "a sound"
_LENGTH = 77  # tokens of a phrase, padding included
_FEWEST = 13  # of them left for words, marks included, by vectors before them
_KEPT = 20_000  # phrases of the judge's cache, a vector of some hundred numbers each


class Clap(Tower):
    """The frozen text tower of a CLAP, opened by its path and stored by path and sha256."""

    name: ClassVar[str] = "clap"
    expected: ClassVar[str] = _WORDS
    takes_context: ClassVar[bool] = True
    length = _LENGTH
    _ears: tuple[ClapJudge] | None = None

    def unpack(self) -> tuple[Path, Any, Any, int, int]:
        """Return the folder with its text tower alone, and the widths of hidden states and shared space."""
        folder = _found(self.path)
        tokenizer, network = _words_of(folder, "model.conditioner clap")
        network.audio_model, network.audio_projection = nn.Identity(), nn.Identity()
        self.length = _most(network)
        return folder, tokenizer, network, int(_text(network).hidden_size), int(network.config.projection_dim)

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return 77 hidden states of each phrase, which of them are words, and its place in the shared space."""
        tokenizer, network = self.opened()
        parts = [said(tokenizer, network, phrases[at : at + AT_ONCE]) for at in range(0, len(phrases), AT_ONCE)]
        return Condition(*(torch.cat(found) for found in zip(*parts, strict=True)))

    def hear(self, waves: Tensor, rate: int) -> Condition:
        """Return the conditions of clips (Q, T): their place in the shared space, and the hidden states of "a sound".

        What attends to words learns from a clip only that it is a sound; what it sounds like stands in the whole.
        """
        if _is_text_alone(Path(self.path).expanduser()):
            return super().hear(waves, rate)
        if self._ears is None:
            self._ears = (ClapJudge(self.path, self.sha256).to(self._place.device),)  # no part that is stored
        with torch.no_grad():
            whole = self._ears[0].hear(waves.to(self._place.device), rate)
        tokens, mask, _ = self.encode([_UNNAMED])
        return Condition(tokens.expand(len(whole), -1, -1), mask.expand(len(whole), -1), whole)

    def behind(self, context: Tensor, phrases: Sequence[str]) -> Condition:
        """Return the same of phrases behind vectors (n, D), which a gradient reaches."""
        tokenizer, network = self.opened()
        at_once = (phrases[at : at + AT_ONCE] for at in range(0, len(phrases), AT_ONCE))
        parts = [said_behind(context, tokenizer, network, some) for some in at_once]
        return Condition(*(torch.cat(found) for found in zip(*parts, strict=True)))

    def room(self, count: int) -> None:
        """Raise ConfigError where so many vectors leave no room for words."""
        _left(count, _LENGTH)


class ClapJudge(Judge):
    """Both frozen towers of a CLAP, by the path of its folder."""

    name: ClassVar[str] = "clap"

    def __init__(self, path: str = "", sha256: str = "") -> None:
        """Take the folder, and the sha256 that it should have where one is known; errors as of `find`."""
        super().__init__()
        if not path:
            raise ConfigError(f"objective.judge_path: empty; expected the folder of a CLAP with {_WORDS}")
        folder = _found(path)
        self.known_by(path, sum_of(folder), sha256)
        settings = front_end(folder)
        self.tokenizer, self.network = _opened(folder, "objective.judge clap")
        try:
            self.rate, self.samples = int(settings["sampling_rate"]), int(settings["nb_max_samples"])
            self.mel = LogMel(
                self.rate, int(settings["fft_window_size"]), int(settings["hop_length"]),
                int(settings["feature_size"]), float(settings["frequency_min"]), float(settings["frequency_max"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as fault:
            raise BadInput(f"{folder}: sound front end unfit ({fault}); expected the settings of CLAP") from fault
        _fits(folder, self.network.config.audio_config, 1 + self.samples // self.mel.hop, self.mel.bank.shape[0])
        self.dim = int(self.network.config.projection_dim)
        self.scale = float(self.network.logit_scale_a.detach().exp())
        self._resamplers: dict[int, Resample] = {}
        self._read: OrderedDict[str, Tensor] = OrderedDict()
        self._context: Tensor | None = None

    def prompted(self, path: str) -> None:
        """Read phrases behind the learned vectors of a file from now on; ConfigError for those of another CLAP."""
        self._context = fitting(path, self, key="objective.judge_prompts")
        # With other vectors it is another judge, and a run that goes on is to know it.
        self.sha256 = hashlib.sha256(self.sha256.encode() + self._context.numpy().tobytes()).hexdigest()
        self._read.clear()

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
        for at in range(0, len(missing), AT_ONCE):
            part = missing[at : at + AT_ONCE]
            self._read.update(zip(part, self._said(part).pooled.cpu(), strict=True))
        place = next(self.network.parameters()).device
        found = torch.stack([self._read[phrase] for phrase in phrases]).to(place)
        for phrase in dict.fromkeys(phrases):
            self._read.move_to_end(phrase)
        while len(self._read) > _KEPT:
            self._read.popitem(last=False)
        return found

    @torch.no_grad()
    def _said(self, phrases: Sequence[str]) -> Condition:
        if self._context is None:
            return said(self.tokenizer, self.network, phrases)
        place = next(self.network.parameters()).device
        return said_behind(self._context.to(place), self.tokenizer, self.network, [bare(one) for one in phrases])


@torch.no_grad()
def said(tokenizer: Any, network: Any, phrases: Sequence[str]) -> Condition:
    """Return the conditions of phrases by a CLAP's text tower, padded to 77 tokens each."""
    ids, mask = _tokens(tokenizer, network, phrases, _most(network))
    return _condition(network, network.text_model(input_ids=ids, attention_mask=mask), mask)


def said_behind(context: Tensor, tokenizer: Any, network: Any, phrases: Sequence[str]) -> Condition:
    """Return the same of phrases behind vectors (n, D), which a gradient reaches: after the mark that begins them.

    ConfigError where the vectors leave no room, or are of another width.
    """
    count, (most, width) = len(context), (_most(network), _text(network).hidden_size)
    if context.shape[1] != width:
        raise ConfigError(f"model.context: vectors of {context.shape[1]} numbers, and this CLAP reads {width}")
    ids, own = _tokens(tokenizer, network, phrases, _left(count, most))
    words = network.text_model.get_input_embeddings()(ids)
    before = context[None].expand(len(ids), -1, -1)
    embeds = torch.cat([words[:, :1], before.to(words), words[:, 1:]], 1)  # (Q, most, D)
    mask = torch.cat([own[:, :1], own.new_ones(len(own), count), own[:, 1:]], 1)
    # Places as the tower counts those of words itself: padding has none of its own.
    places = mask.cumsum(1) * mask + _text(network).pad_token_id
    found = network.text_model(inputs_embeds=embeds, attention_mask=mask, position_ids=places)
    return _condition(network, found, mask)


def _tokens(tokenizer: Any, network: Any, phrases: Sequence[str], most: int) -> tuple[Tensor, Tensor]:
    given = tokenizer(list(phrases), padding="max_length", truncation=True, max_length=most, return_tensors="pt")
    place = next(network.parameters()).device
    return given["input_ids"].to(place), given["attention_mask"].to(place)


def _condition(network: Any, found: Any, mask: Tensor) -> Condition:
    pooled = F.normalize(network.text_projection(found.pooler_output), dim=-1)
    return Condition(found.last_hidden_state.float(), mask.bool(), pooled.float())


def _most(network: Any) -> int:
    """Return to how many tokens phrases are padded: 77, or as many as the tower has places for."""
    # RoBERTa counts places from behind that of its padding, and CLAP's default for that is 1.
    config = _text(network)
    return min(_LENGTH, int(config.max_position_embeddings) - 1 - int(config.pad_token_id))


def _fits(folder: Path, config: Any, frames: int, bands: int) -> None:
    """Raise BadInput where spectra of so many frames and bands are none that the tower was made for."""
    most = config.spec_size * (config.spec_size // config.num_mel_bins)
    if bands != config.num_mel_bins or frames > most:
        raise BadInput(
            f"{folder}: a sound front end of {frames} frames of {bands} bands, and the tower takes at most {most} of "
            f"{config.num_mel_bins}; expected the {' or '.join(_SOUND)} that it was trained with"
        )


def _left(count: int, most: int) -> int:
    """Return how many of `most` tokens are left for words and the marks around them; ConfigError for too few."""
    if count > most - _FEWEST:
        raise ConfigError(f"model.context: found {count}; expected at most {most - _FEWEST}, for {most} tokens in all")
    return most - count


def _found(path: str) -> Path:
    return find(path, "CLAP", _WORDS, [{"tokenizer.json"}, {"vocab.json", "merges.txt"}])


def _opened(folder: Path, key: str) -> tuple[Any, Any]:
    return open_in(folder, "ClapModel", "clap", key, "CLAP", _WORDS)


def _words_of(folder: Path, key: str) -> tuple[Any, Any]:
    """Return tokenizer and network of a folder with a CLAP, or with the text tower of one alone."""
    if _is_text_alone(folder):
        return open_in(folder, "ClapTextModelWithProjection", _TEXT, key, "text tower of a CLAP", _WORDS)
    return _opened(folder, key)


def _is_text_alone(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "config.json").read_text("utf-8")).get("model_type") == _TEXT)
    except (OSError, ValueError, AttributeError):
        return False  # whoever opens it says what is wrong


def _text(network: Any) -> Any:
    """Return the settings of a CLAP's text tower, which are all that there are of one alone."""
    return getattr(network.config, "text_config", network.config)


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
