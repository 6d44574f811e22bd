"""Mixtures as FUSS has them, from any recordings of events and backgrounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from usepcli.audio.io import show
from usepcli.data.corpora.events import Events
from usepcli.data.corpora.listing import Recording
from usepcli.data.corpora.responses import responses_in
from usepcli.data.heard_scenes import HeardPlanner
from usepcli.data.loud_scenes import LoudPlanner
from usepcli.data.manifest import PoolRow
from usepcli.data.rooms import check_rt60, simulator
from usepcli.data.scenes import ScenePlanner
from usepcli.errors import BadInput, ConfigError

_RT60_S = (0.2, 0.5)
_LEAST_LUFS = -65.0  # of the quietest foreground: the gate of a meter hears nothing below -70 LUFS


class FussMix(Events):
    """Ten seconds of a background and up to three foregrounds at 16 kHz, with levels in LUFS.

    Recordings are named as for `events`; `backgrounds` is a folder of their own, and all others are foregrounds then.
    The classes are the queries where no column names any. FUSS has its backgrounds at -55 LUFS. With rooms the
    references are the reverberant sources; the same scenes without their rooms are listed in dry.csv.
    """

    def __init__(
        self,
        sources: tuple[int, int] = (1, 4),
        rate: int = 16000,
        seconds: float = 10.0,
        background: float = 1.0,
        background_s: float = 10.0,
        backgrounds: str = "",
        background_lufs: float = -45.0,
        event_snr_db: tuple[float, float] = (-5.0, 25.0),
        reverb: Literal["none", "simulated", "measured"] | None = None,
        rirs: str = "",
        rt60_s: tuple[float, float] = (0.2, 0.5),
        rooms: int = 0,
        min_s: float = 0.2,
        train: int = 2000,
        valid: int = 200,
        test: int = 200,
        split_ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
        csv: str = "",
        split_column: str = "",
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        Events.__init__(
            self, sources, rate, seconds, background, background_s, event_snr_db, min_s, train, valid, test,
            split_ratios, csv, split_column, limit, seed,
        )  # fmt: skip
        quietest = background_lufs + min(0.0, event_snr_db[0])
        if not (math.isfinite(background_lufs) and quietest >= _LEAST_LUFS and background_lufs <= 0):
            raise ConfigError(
                f"--background-lufs {background_lufs:g}: a loudness in LUFS was expected, 0 at most, with every "
                f"foreground at {_LEAST_LUFS:g} or more (FUSS: -55)"
            )
        self.backgrounds, self.lufs = backgrounds, background_lufs
        self.reverb = reverb or ("measured" if rirs else "none")
        self.rirs, self.rt60_s, self.rooms = rirs, rt60_s, rooms
        self._check_rooms()
        self._left_out = 0
        self._apart: list[Recording] = []
        self._told: list[str] = []

    def scan(self, root: Path) -> list[PoolRow]:
        """List the foregrounds of at least `min_s` seconds with class, query and split; paths relative to root."""
        rows = super().scan(root)
        if self.backgrounds:
            self._left_out = len(self._behind)
            self._behind = self._rows(self._apart, Path(self.backgrounds))
        if any(row.query for row in rows):
            self._behind = [replace(row, query=row.query or "background") for row in self._behind]
        return rows

    def scan_noise(self, root: Path) -> tuple[Path, list[PoolRow]]:
        """List the backgrounds: those of their own folder, or those that `scan` met."""
        place, rows = super().scan_noise(root)
        return (Path(self.backgrounds) if self.backgrounds else place), rows

    def planner(
        self,
        split: str,
        rows: Sequence[PoolRow],
        noise: Sequence[PoolRow],
        index: int,
        rooms: Sequence[PoolRow] = (),
    ) -> ScenePlanner:
        """Return the scenes of split number `index`."""
        if self.reverb == "none":
            return LoudPlanner(self.recipe, split, rows, noise, self.seed, index, self.lufs)
        rt60_s = self.rt60_s if self.reverb == "simulated" else None
        return HeardPlanner(
            self.recipe, split, rows, noise, self.seed, index, self.lufs, rt60_s, self.rooms, rooms
        )  # fmt: skip

    def scan_rooms(self) -> tuple[Path, list[PoolRow]]:
        """List the measured responses of the splits that get scenes, with their rooms."""
        if self.reverb != "measured":
            return Path(), []
        splits = [name for name, count in self.counts.items() if count]
        rows, told = responses_in(Path(self.rirs), splits, self.split_ratios, self.seed, self.bad)
        self._told.append(told)
        return Path(self.rirs), rows

    def tools(self) -> dict[str, str]:
        """Return the version of the room simulator, where it is used; MissingDependency without it."""
        return simulator() if self.reverb == "simulated" else {}

    def remarks(self) -> list[str]:
        """Return which recordings are not used, and how rooms were dealt out."""
        left = f"{self._left_out} recordings that the list calls backgrounds are left out: --backgrounds names others"
        return [*self._told, *([left] if self._left_out else [])]

    def _check_rooms(self) -> None:
        """ConfigError for options of rooms that do not go together."""
        if (self.reverb == "measured") != bool(self.rirs):
            found = "no --rirs" if not self.rirs else f"--reverb {self.reverb}"
            raise ConfigError(f"{found}: --reverb measured and --rirs FOLDER, its room responses, go together")
        if self.reverb == "simulated":
            if self.rooms < 0:
                raise ConfigError(f"--rooms {self.rooms}: 0 (a room for every mixture) or more was expected")
            check_rt60(self.rt60_s)
        elif self.rooms or self.rt60_s != _RT60_S:
            raise ConfigError(f"--{'rooms' if self.rooms else 'rt60'}: is for simulated rooms; add --reverb simulated")

    def _listed(self, root: Path, table: str, split_column: str) -> list[Recording]:
        """Return the recordings of SOURCE without those of the folders for backgrounds and rooms, set apart."""
        found = super()._listed(root, table, split_column)
        if self.rirs:
            found = _without(found, root, Path(self.rirs))
        if self.backgrounds:
            folder = Path(self.backgrounds)
            behind = super()._listed(folder, "", "none" if split_column == "none" else "")
            if root.resolve().is_relative_to(folder.resolve()):
                self._apart = _without(behind, folder, root)
            else:
                found, self._apart = _without(found, root, folder), behind
        for name, given, left in ((root, True, found), (self.backgrounds, bool(self.backgrounds), self._apart)):
            if given and not left:
                raise BadInput(f"{show(name)}: no recording but those of another folder that was given; name one apart")
        return found

    def _is_background(self, item: Recording) -> bool:
        return item.role == "background" if self.backgrounds else super()._is_background(item)

    def _rows(self, found: list[Recording], root: Path) -> list[PoolRow]:
        rows = super()._rows(found, root)
        return [replace(row, query=(row.query or _words(row)).replace(";", ",")) for row in rows]


def _words(row: PoolRow) -> str:
    """Return a row's class as one would ask for it."""
    return row.speaker.removeprefix(f"{row.split}/").replace("_", " ").strip()


def _without(found: list[Recording], root: Path, folder: Path) -> list[Recording]:
    """Return the recordings under root that do not lie in a folder as well."""
    there = folder.resolve()
    return [item for item in found if not (root / item.path).resolve().is_relative_to(there)]
