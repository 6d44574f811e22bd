"""The model of a batch: known by its card before any work, loaded when something is to be separated."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli import device as devices
from usepcli.errors import UsageError
from usepcli.separator import engines
from usepcli.separator.how import check_chunk, default_chunk_s
from usepcli.separator.words import Query
from usepcli.weights import cards, ensembles

if TYPE_CHECKING:
    from usepcli.separator.separator import Separator


class Maker:
    """The model by what its card says of it; it is loaded when something is to be separated."""

    def __init__(
        self, ref: str, device: str, threads: int, chunk_s: float, queries: tuple[Query, ...] = (),
        engine: str = engines.TORCH, say: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        devices.check(device)
        engines.check(engine, ref, device)
        if chunk_s:
            check_chunk(chunk_s)
        self.ref, self.device, self.threads, self._chunk_s = ref, device, threads, chunk_s
        self.queries, self.engine, self.say = queries, engine, say
        self.card = ensembles.find(ref).card

    @classmethod
    def of(
        cls, model: str | Separator, device: str, threads: int, chunk_s: float, queries: tuple[Query, ...] = (),
        engine: str = engines.TORCH, say: Callable[[str], None] = lambda line: None,
    ) -> Maker:  # fmt: skip
        """Return the maker of a model in reach, or of one that is loaded, which keeps device, engine and chunk."""
        if isinstance(model, (str, Path)):
            return cls(str(model), device, threads, chunk_s, queries, engine, say)
        found = cls(model.ref, "auto", 0, model.chunk_s, queries)
        found.engine = model.engine
        found.__dict__["_loaded"] = model
        return found

    @property
    def by_query(self) -> bool:
        """Whether the model separates what it is asked for."""
        return not self.card.n_src and (self._loaded.by_query or bool(self._loaded.queries))

    @property
    def n_src(self) -> int:
        """The number of outputs; UsageError for queries and a model that takes none, or the other way round."""
        asked = self.by_query
        if self.queries and not asked:
            raise UsageError(
                f"--query: model {self.ref} takes no queries, its outputs are what it was trained for; leave it out, "
                "or name a model by query with --model"
            )
        if asked and not self.queries:
            raise UsageError(
                f"--model {self.ref}: separates what it is asked for in words and was asked for nothing; add "
                "--query 'a dog barking', once for each sound"
            )
        return len(self.queries) or self.card.n_src or self.separator.n_src

    @property
    def sources(self) -> int | tuple[str, ...]:
        """What the outputs are called, or their number; errors as of `n_src`."""
        count = self.n_src
        return count if self.queries else self.card.sources or self.separator.sources

    @cached_property
    def chunk_s(self) -> float:
        """Seconds of a chunk: the same whether the model is loaded or not, since outputs are told apart by it."""
        cost = cards.cost(self.card)
        if self._chunk_s or self.card.hears_s:
            return self._chunk_s or self.card.hears_s
        if cost is None or not self.card.sample_rate:
            return self.separator.chunk_s
        return default_chunk_s(self.card.segment_s, (cost.receptive_field_samples or 0) / self.card.sample_rate)

    @cached_property
    def separator(self) -> Separator:
        """The loaded model, asked for its queries."""
        return self._loaded.ask(self.queries) if self.queries else self._loaded

    @cached_property
    def _loaded(self) -> Separator:
        from usepcli.separator.separator import Separator

        # Where the chunk was settled by the card it holds, whatever the model would say.
        chunk_s = self.__dict__.get("chunk_s", self._chunk_s)
        return Separator.load(self.ref, self.device, self.threads, chunk_s, self.engine, self.say)


class Late:
    """Stands for the separator until it is asked for something: a file that is not there takes no model."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._maker.separator, name)
