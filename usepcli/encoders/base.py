"""What a separator and a training ask of parts that know words and sounds, whoever made these.

    c(q) = (tokens (N, D), mask (N,), pooled (E,))    a conditioner's answer to a phrase q
    cos(hear(x), read(q)) in [-1, 1]                  a judge's view of a waveform x and a phrase q

What conditions a separator and what judges its outputs are independent of each other: two tables of the registry.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from usepcli.errors import BadInput, ConfigError

_KEPT = 20_000  # phrases of the cache; one of 77 tokens of 768 numbers takes 240 kB, one of a vector 2 kB
_KEPT_NUMBERS = 1 << 28  # numbers of the cache, 1 GiB


class Condition(NamedTuple):
    """What a network hears of Q phrases: N tokens of D numbers, which of them are words, and E numbers of the whole."""

    tokens: Tensor  # (Q, N, D)
    mask: Tensor  # (Q, N) bool; at least one of every phrase is True
    pooled: Tensor  # (Q, E)


class Conditioner(nn.Module):
    """Turns phrases into conditions; a subclass implements `read` and, where it reads a file or a folder, `open`.

    It is made without touching the disk where `sha256` is given, that is, from a stored model: what was trained with
    it is then known by that sum, and `open` is called by the first phrase that it has to read. Without, `open` is
    called at once. A phrase gets the same condition beside any others; frozen conditioners remember them.
    """

    name: ClassVar[str] = ""
    learns: ClassVar[bool] = False  # trained with the separator, and stored with it
    stored: ClassVar[bool] = False  # its tensors stand in the model's file, so that no path is needed any more
    takes_context: ClassVar[bool] = False  # whether learned vectors may stand before its words (encoders/prompts.py)
    closed: bool = False  # nothing was read yet: what a stored model was made with
    length: int = 0  # tokens of every phrase, padding included; 0: as many as the phrases take
    _place: Tensor

    def __init__(
        self,
        path: str = "",
        phrases: Sequence[str] = (),
        token_dim: int = 0,
        pooled_dim: int = 0,
        sha256: str = "",
    ) -> None:
        """Take a path, the phrases of a closed list, the widths D and E that are expected (0: its own), and a sum.

        InputNotFound, BadInput or ConfigError, by `open`, where these do not fit.
        """
        super().__init__()
        self.path, self.phrases, self.sha256 = path, tuple(phrases), sha256
        self.token_dim, self.pooled_dim = token_dim, pooled_dim
        self._kept: OrderedDict[str, Condition] = OrderedDict()
        self._numbers = 0
        # Follows its owner from device to device, so that what is opened later goes there, too.
        self.register_buffer("_place", torch.empty(0), persistent=False)
        self.open()

    def open(self) -> None:
        """Make what it is of its arguments, at the end of its making; subclasses that are made of something do."""

    @property
    def vectors(self) -> int:
        """How many learned vectors stand before its words."""
        return 0

    @property
    def classes(self) -> tuple[str, ...]:
        """The closed list of phrases that it knows; none for what hears words."""
        return self.phrases

    @property
    def reference(self) -> str:
        """By what it is found again: its path, or its name where it has none."""
        return self.path or self.name

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return the conditions of phrases, none of them empty; subclasses implement this."""
        raise NotImplementedError

    def hear(self, waves: Tensor, rate: int) -> Condition:
        """Return the conditions of clips (Q, T) at `rate` Hz that stand for phrases; BadInput where it cannot hear."""
        raise BadInput(
            f"conditioner {self.name} knows words alone and hears no example; ask in words, or take a model whose "
            "conditioner hears (audio_text, clap)"
        )

    def encode(self, phrases: Sequence[str]) -> Condition:
        """Return the conditions of Q phrases, each read once; BadInput as of `check`."""
        self.check(phrases)
        return self.read(phrases) if self.learns or self.stored else self.remembered(phrases)

    def check(self, phrases: Sequence[str]) -> None:
        """Raise BadInput for an empty phrase or for none."""
        if not phrases or not all(phrase.strip() for phrase in phrases):
            raise BadInput("an empty query; say in words what to separate, for instance 'a dog barks'")

    def remembered(self, phrases: Sequence[str]) -> Condition:
        """Return the conditions of Q phrases without gradient, each from memory or read now."""
        with torch.no_grad():
            found = self._recalled(list(dict.fromkeys(phrases)))
        device = self._place.device
        return self._stacked([found[phrase] for phrase in phrases], device)

    def forget(self) -> None:
        """Read every phrase anew from now on."""
        self._kept.clear()
        self._numbers = 0

    def behind(self, context: Tensor, phrases: Sequence[str]) -> Condition:
        """Return the conditions of phrases behind vectors (n, D), which a gradient reaches, where it takes them."""
        raise NotImplementedError

    def room(self, count: int) -> None:
        """Raise ConfigError where so many vectors leave no room for words."""

    def settled(self) -> dict[str, Any]:
        """Return the arguments with which it is made again without its path: all but the path itself."""
        return {
            "phrases": self.phrases,
            "token_dim": self.token_dim,
            "pooled_dim": self.pooled_dim,
            "sha256": self.sha256,
        }

    def fits(self, what: str, token_dim: int, pooled_dim: int) -> None:
        """Take over the widths that were found in `what`; ConfigError where others are expected."""
        for key, expected, found in (
            ("cond_dim", self.token_dim, token_dim),
            ("emb_dim", self.pooled_dim, pooled_dim),
        ):
            if expected not in (0, found):
                raise ConfigError(
                    f"model.{key}: found {expected}, and {what} gives {found} numbers; set model.{key} to {found} or 0"
                )
        self.token_dim, self.pooled_dim = token_dim, pooled_dim

    def known_by(self, found: str) -> None:
        """Take over the sha256 of what was opened; BadInput where a stored model was trained with another."""
        if self.sha256 not in ("", found):
            raise BadInput(
                f"{self.reference}: sha256 {found[:12]}, and the model was trained with {self.sha256[:12]}; bring the "
                "former file or folder back"
            )
        self.sha256 = found

    def _recalled(self, phrases: list[str]) -> dict[str, Condition]:
        """Return each phrase's condition without the padding of longer ones, from the cache or read now."""
        found = {phrase: self._kept[phrase] for phrase in phrases if phrase in self._kept}
        missing = [phrase for phrase in phrases if phrase not in found]
        if missing:
            tokens, mask, pooled = self.read(missing)
            ends = [mask.shape[1] if self.length else int(row.nonzero().max()) + 1 for row in mask]
            for k, phrase in enumerate(missing):
                found[phrase] = Condition(tokens[k, : ends[k]].clone(), mask[k, : ends[k]].clone(), pooled[k].clone())
        for phrase in phrases:
            self._keep(phrase, found[phrase])
        return found

    def _keep(self, phrase: str, condition: Condition) -> None:
        if phrase in self._kept:
            self._kept.move_to_end(phrase)
            return
        self._kept[phrase] = condition
        self._numbers += condition.tokens.numel()
        while len(self._kept) > _KEPT or self._numbers > _KEPT_NUMBERS:
            self._numbers -= self._kept.popitem(last=False)[1].tokens.numel()

    @staticmethod
    def _stacked(parts: Sequence[Condition], device: torch.device) -> Condition:
        most = max(len(part.mask) for part in parts)
        tokens = torch.zeros(len(parts), most, parts[0].tokens.shape[-1], device=device)
        mask = torch.zeros(len(parts), most, dtype=torch.bool, device=device)
        for k, part in enumerate(parts):
            tokens[k, : len(part.mask)], mask[k, : len(part.mask)] = part.tokens, part.mask
        return Condition(tokens, mask, torch.stack([part.pooled for part in parts]).to(device))


class Judge(nn.Module):
    """Says how well waveforms fit phrases, by vectors of unit norm in one space; a subclass implements both sides."""

    name: ClassVar[str] = ""
    rate: int  # Hz at which it hears
    dim: int  # E
    scale: float = 1.0  # by which cosines become logits: exp of what the judge was trained to
    reference: str = ""  # by what it is found again
    sha256: str = ""

    def prompted(self, path: str) -> None:
        """Read phrases behind the learned vectors of a file from now on; ConfigError where it cannot, or unfit ones."""
        raise ConfigError(
            f"objective.judge_prompts: {path}, and judge {self.name or type(self).__name__} reads no words behind "
            "learned vectors; take judge clap, or leave it empty"
        )

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        """Return (B, E), unit norm, of waves (B, T) at `rate` Hz (0: its own), any T >= 1.

        Differentiable to the waveform.
        """
        raise NotImplementedError

    def features(self, waves: Tensor, rate: int = 0) -> Tensor:
        """Return (B, D), what further layers may learn from: what `hear` returns, or what it is made of."""
        return self.hear(waves, rate)

    def read(self, phrases: Sequence[str]) -> Tensor:
        """Return (Q, E), unit norm and without gradient, of Q phrases, none of them empty."""
        raise NotImplementedError

    def known_by(self, path: str, found: str, expected: str = "") -> None:
        """Take over path and sha256 of what was opened; BadInput where `expected`, if any, is another."""
        if expected not in ("", found):
            raise BadInput(
                f"{path}: sha256 {found[:12]}, and {expected[:12]} was expected; bring the former folder back"
            )
        self.reference, self.sha256 = path, found


def near(phrase: str, phrases: Iterable[str], most: int = 3) -> list[str]:
    """Return those of `phrases` that share a word's beginning with `phrase` or are spelled alike, nearest first."""
    import difflib

    lowered = {known.lower(): known for known in phrases}
    asked = phrase.lower()[:120]
    begins = {word[:3] for word in asked.split() if len(word) > 2}
    alike = [name for name in lowered if any(word[:3] in begins for word in name.split())]
    close = difflib.get_close_matches(asked, lowered, n=most, cutoff=0.5)
    return [lowered[name] for name in dict.fromkeys([*alike, *close])][:most]
