"""What the corpus adapters share: walking trees, reading headers, naming splits, finding moved files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from usepcli import guard
from usepcli.audio import io, tars
from usepcli.data.manifest import PoolRow, Row
from usepcli.errors import BadInput, InputNotFound
from usepcli.files import expanded

SPLITS = ("train", "valid", "test")
# Recordings held out from training talkers, and test mixtures of these; test mixtures of other talkers.
CLOSED, OPEN = "closed", "open"
_SPLIT_WORDS = {
    "train": "train", "training": "train", "tr": "train", "train-100": "train", "train-360": "train",
    "train-clean-100": "train", "train-clean-360": "train", "train-other-500": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "cv": "valid",
    "dev-clean": "valid", "dev-other": "valid", "test": "test", "testing": "test", "tt": "test", "et": "test",
    "eval": "test",
    "evaluation": "test", "test-clean": "test", "test-other": "test",
}  # fmt: skip


class Bad(NamedTuple):
    """A file that is not used, and why; ours: an output of usep, which is passed over and no fault."""

    path: str
    reason: str
    ours: bool = False


class Corpus:
    """Base of the adapters; `scan` leaves unusable files in `bad`."""

    bad: list[Bad]
    patterns = False  # whether a source may be a pattern or an address, which does not exist as such

    def keep(self, folder: Path) -> None:
        """Write what else reading the set takes into the folder of its tables; nothing, as a rule."""

    def scan(self, root: Path) -> list[Row] | list[PoolRow]:
        """List the corpus, paths relative to root; InputNotFound or BadInput if it is not of this layout."""
        raise NotImplementedError

    def remarks(self) -> list[str]:
        """Return what a person should know of what was listed, or will be made, with these options."""
        return []


def split_word(name: str) -> str:
    """Return train, valid or test for the usual names of these splits ('tr', 'dev', 'eval' ...), else ''."""
    return _SPLIT_WORDS.get(name.lower(), "")


def split_of(relative: str) -> str:
    """Return the split that a folder of a relative path names, the outermost first, else ''."""
    words = (split_word(part) for part in PurePath(relative).parts[:-1])
    return next((word for word in words if word), "")


def ratio_splits(names: Iterable[str], ratios: Sequence[float], seed: int) -> dict[str, str]:
    """Deal distinct names out to train, valid and test in the given ratios, by seed alone.

    Every split with a positive ratio gets at least one name while there are enough of them.
    """
    ordered = sorted(set(names))
    if len(ratios) != 3 or not all(0 <= ratio < np.inf for ratio in ratios) or not 0 < sum(ratios) < np.inf:
        raise BadInput(f"split ratios {tuple(ratios)}: three numbers >= 0 were expected, for train, valid and test")
    shuffled = [
        ordered[i] for i in np.random.default_rng(np.random.SeedSequence([seed, 0x5711])).permutation(len(ordered))
    ]
    share = np.asarray(ratios, float) / sum(ratios) * len(ordered)
    count = np.floor(share + 1e-9).astype(int)
    for k in np.argsort(-(share - count), kind="stable")[: len(ordered) - count.sum()]:
        count[k] += 1
    for k in (2, 1):
        if ratios[k] > 0 and not count[k] and count.max() > 1:
            count[int(np.argmax(count))] -= 1
            count[k] += 1
    ends = np.cumsum(count)
    return {name: SPLITS[int(np.searchsorted(ends, i, side="right"))] for i, name in enumerate(shuffled)}


def walk(root: Path) -> Iterator[str]:
    """Yield every sound file under root as a relative path, sorted, without hidden files and link loops."""
    if not root.is_dir():
        what = "is a file, a folder was expected" if root.exists() else "no such folder"
        raise InputNotFound(f"{io.show(root)}: {what}")
    seen: set[str] = set()
    for folder, children, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder already walked
            children.clear()
            continue
        seen.add(real)
        children[:] = sorted(name for name in children if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in io.AUDIO_SUFFIXES:
                yield os.path.relpath(os.path.join(folder, name), root)


def some(items: Sequence[str], limit: int) -> list[str]:
    """Return at most `limit` items (0: all), evenly picked so that every part of the list is represented."""
    if not limit or limit >= len(items):
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def probe(root: Path, paths: Iterable[str], bad: list[Bad]) -> dict[str, io.Info]:
    """Read many headers at once; files without a readable sample go to `bad`."""
    wanted = list(dict.fromkeys(paths))
    found: dict[str, io.Info] = {}
    with ThreadPoolExecutor(8) as pool:  # opening files waits for the disk, not for the processor
        for path, answer in zip(wanted, pool.map(lambda path: _header(tars.located(root, path)), wanted), strict=True):
            if isinstance(answer, io.Info):
                found[path] = answer
            else:
                bad.append(Bad(path, answer))
    return found


def _header(path: Path) -> io.Info | str:
    try:
        header = io.info(path)
        if header.format == "MP3" and io.is_cut_mp3(path):
            return "holds less than its header says; the file is cut short"
    except Exception as error:
        return guard.reason(error, path)
    return header if header.frames else "a header without samples"


class Finder:
    """Finds the files that a list names, even if the list was written on another machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._dropped = -1  # leading parts dropped last time: the next file is most likely found the same way

    def find(self, text: str) -> str:
        """Return the path relative to root: as written, or the longest tail of it that exists there."""
        if not text:
            return ""
        path = PurePath(text.replace("\\", "/"))
        if not path.is_absolute() and (self.root / path).exists():
            return str(path)
        with suppress(ValueError):  # of a variable that is not set: a name as it is written
            path = PurePath(expanded(str(path)))
        parts = path.parts[1:] if path.is_absolute() else path.parts
        for drop in [self._dropped, *range(len(parts))]:
            if 0 <= drop < len(parts):
                tail = os.path.join(*parts[drop:])
                if (self.root / tail).exists():
                    self._dropped = drop
                    return tail
        return str(path)  # kept as written: the check will call it missing
