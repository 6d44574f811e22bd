"""Who speaks in pools of utterances, and in which of them: as numbers, so that millions of utterances are no matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from usepcli.data import lazy
from usepcli.data.columns import Given, Names
from usepcli.data.manifest import Pool, PoolRow, home

# An utterance without a talker's name is drawn a tenth as often as a named talker: ten of them are taken for one
# voice, so that a large unnamed collection adds voices without crowding out the named ones.
UNNAMED_WEIGHT = 0.1


class Voices:
    """The talkers of pools, in the order of their names, with what tells them apart and how often each is drawn.

    An utterance without a label counts as a talker of its own, but two of them may share the voice: `group` (talkers,)
    keeps those of one origin from meeting in a mixture.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = list(pools)
        self._bases = np.cumsum([0, *(len(pool.rows) for pool in pools)])
        names: list[str] = []
        groups: dict[str, int] = {}
        group, weight, whose = list[int](), list[float](), [np.zeros(0, np.int64)]
        for n, pool in enumerate(pools):
            lazy.learn(pool.rows, {"speaker": Names, "query": Given})
            speakers, who = lazy.names(pool.rows, "speaker")
            talker = np.full(len(speakers), -1)
            for k, speaker in enumerate(speakers):
                if speaker:
                    talker[k] = len(names)
                    names.append(f"{n}/{speaker}")
                    group.append(groups.setdefault(names[-1], len(groups)))
                    weight.append(1.0)
            mine = talker[who] if len(who) else np.zeros(0, np.int64)
            places = np.flatnonzero(mine < 0)
            alone = lazy.some(pool.rows, places)
            if len(alone):
                lazy.learn(alone, {"path": Names, "origin": Names})
            paths, which = lazy.names(alone, "path")
            origins, origin = lazy.names(alone, "origin")
            mine[places] = which + len(names)
            last = np.zeros(len(paths), np.int64)
            last[which] = origin
            for path, k in zip(map(home, paths), last.tolist(), strict=True):
                names.append(f"{n}?{path}")
                group.append(groups.setdefault(f"{n}?{origins[k]}", len(groups)))
                weight.append(1.0 if origins[k] == path else UNNAMED_WEIGHT)
            whose.append(mine)
        order = sorted(range(len(names)), key=names.__getitem__)
        self.talkers = [names[i] for i in order]
        self._named = np.array(["?" not in names[i].partition("/")[0] for i in order], bool)
        self.group, self.weight = np.array(group, np.int64)[order], np.array(weight)[order]
        rank = np.argsort(order)
        self._whose = rank[np.concatenate(whose)] if order else np.zeros(0, np.int64)
        self._sorted = np.argsort(self._whose, kind="stable")
        self._ends = np.cumsum(np.bincount(self._whose, minlength=len(order)))
        self._asked = any(lazy.given(pool.rows, "query").any() for pool in pools)

    @property
    def counts(self) -> np.ndarray:
        """Utterances of each talker (talkers,)."""
        return np.diff(self._ends, prepend=0)

    def name(self, talker: int) -> str:
        """Return a talker's name as its pool has it, '' for one without a name."""
        return self.talkers[talker].partition("/")[2] if self._named[talker] else ""

    def utterances(self, talker: int, query: str | None = None) -> np.ndarray:
        """Return the numbers of what a talker says, in the order of the pools; query: only what is asked for by it."""
        begin = self._ends[talker - 1] if talker else 0
        found = self._sorted[begin : self._ends[talker]]
        if query is None or not self._asked:
            return found
        return np.array([i for i in found.tolist() if self.row(i)[1].query == query], np.int64)

    def row(self, utterance: int) -> tuple[Pool, PoolRow]:
        """Return the pool of an utterance, and its row there."""
        n = int(np.searchsorted(self._bases, utterance, side="right")) - 1
        return self.pools[n], self.pools[n].rows[int(utterance - self._bases[n])]
