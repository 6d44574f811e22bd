"""Single-talker recordings that meet in simulated rooms with noise: the data of Saijo and Ogawa (2023), WSJ-mix."""

from __future__ import annotations

from collections.abc import Sequence

from usepcli.data.corpora.base import Bad
from usepcli.data.corpora.maker import Plans, check_counts
from usepcli.data.corpora.speakers import Speakers
from usepcli.data.manifest import PoolRow
from usepcli.data.pairs import PairPlanner, RoomRecipe
from usepcli.data.rooms import simulator


class WsjMix(Speakers):
    """Reverberant mixtures from any single-talker recordings; talkers and splits are named as for `speakers`.

    The references are the reverberant talkers; `anechoic` writes their direct sound too, listed in anechoic.csv.
    `rooms` simulates that many rooms for each split and shares them, 0 one for every mixture. Utterances stay whole,
    so a list's column `text` says what each talker says. Of noise recorded with several microphones give the files
    of one.
    """

    def __init__(
        self,
        n_src: int = 2,
        rate: int = 8000,
        rt60_s: tuple[float, float] = (0.2, 1.0),
        rooms: int = 0,
        anechoic: bool = False,
        noise: str = "",
        noise_snr_db: tuple[float, float] = (10.0, 20.0),
        min_s: float = 0.5,
        train: int = 2000,
        valid: int = 200,
        test: int = 200,
        split_ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        csv: str = "",
        speaker_column: str = "",
        split_column: str = "",
        speaker_depth: int = 1,
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        self.rooms = RoomRecipe(n_src, rate, rt60_s, noise_snr_db, rooms, anechoic)
        self.rooms.check()
        self.counts = check_counts(train, valid, test, limit, seed, min_s)
        self.rate, self.seed, self.noise = rate, seed, noise
        self.min_s, self.split_ratios, self.limit = min_s, split_ratios, limit
        self.csv, self.speaker_column, self.split_column = csv, speaker_column, split_column
        self.speaker_depth = speaker_depth
        self.bad: list[Bad] = []
        self.texts: dict[str, str] = {}

    def planner(
        self,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        index: int,
        rooms: Sequence[PoolRow] = (),
    ) -> Plans:
        """Return the plans of split number `index`."""
        return PairPlanner(self.rooms, split, rows, noise, self.seed, index, self.texts)

    def remarks(self) -> list[str]:
        """Return that there is no noise, where none was given."""
        return [] if self.noise else ["no --noise folder was given: the mixtures hold no noise"]

    def tools(self) -> dict[str, str]:
        """Return the version of the room simulator; MissingDependency without it."""
        return simulator()
