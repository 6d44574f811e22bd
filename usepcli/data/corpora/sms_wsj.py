"""SMS-WSJ (Drude et al. 2019) and data of the same form: many channels, listed in a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from usepcli.audio.io import show
from usepcli.data.corpora.base import Bad, Finder, some, split_word
from usepcli.data.corpora.cutter import Cutter, Job, Piece
from usepcli.data.manifest import Row
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.files import MOST_LIST, read_json

# The keys whose sum is the reference, the first that an example has.
_REFERENCES = {
    "reverberant": (
        ("speech_reverberant_clean",),
        ("speech_image",),
        ("speech_reverberation_early", "speech_reverberation_tail"),
    ),
    "early": (("speech_reverberation_early",),),
    "anechoic": (("speech_anechoic_clean",), ("speech_source",)),
}


class SmsWsj(Cutter):
    """sms_wsj.json, or another JSON of its form: datasets, name, example, audio_path, observation and so on.

    Mono copies are written: of the mixture and the noise `channel`, and as references the talkers with the room
    (reverberant: early and late part added up), with its first 50 ms (early) or without it (anechoic).
    """

    def __init__(
        self,
        reference: Literal["reverberant", "early", "anechoic"] = "reverberant",
        channel: int = 0,
        licence: str = "LDC user agreement (WSJ0, WSJ1)",
        limit: int = 0,
    ) -> None:
        if channel < 0:
            raise ConfigError(f"--channel {channel}: a channel's number from 0 was expected")
        self.reference, self.channel = reference, channel
        self.licence, self.limit = licence, limit
        self.bad: list[Bad] = []

    def jobs(self, root: Path) -> list[Job]:
        """List the examples of the JSON in a folder, or of the JSON itself; paths are found again by their tails."""
        table = _table(root)
        finder = Finder(table.parent)
        jobs: list[Job] = []
        for name, examples in _datasets(table).items():
            split = split_word(name) or split_word(name.split("_")[0])
            if not split:
                raise BadInput(f"{show(table)}: dataset '{name}'; a name with train, cv, dev or test was expected")
            for key in some(list(examples), self.limit):
                jobs.append(self._job(table, key, split, examples[key], finder))
        return jobs

    def _job(self, table: Path, key: str, split: str, example: dict[str, Any], finder: Finder) -> Job:
        paths = example.get("audio_path")
        if not isinstance(paths, dict) or "observation" not in paths:
            raise BadInput(f"{show(table)}: {key} has no audio_path.observation")
        choices = _REFERENCES[self.reference]
        names = next((names for names in choices if all(name in paths for name in names)), None)
        if names is None:
            wanted = " or ".join("+".join(names) for names in choices)
            raise BadInput(f"{show(table)}: {key} has no {wanted}; see --reference; it has: {', '.join(paths)}")
        folder = f"wav/{split}/{key}"
        columns = [_listed(paths[name]) for name in names]
        if len(set(map(len, columns))) != 1:
            raise BadInput(f"{show(table)}: {key} lists {' and '.join(str(len(c)) for c in columns)} files of talkers")
        parts = [tuple(self._piece(path, finder) for path in each) for each in zip(*columns, strict=True)]
        files = [(f"{folder}/s{k + 1}.wav", pieces) for k, pieces in enumerate(parts)]
        if "noise_image" in paths:
            files.append((f"{folder}/noise.wav", (self._piece(_listed(paths["noise_image"])[0], finder),)))
        files.append((f"{folder}/mix.wav", (self._piece(_listed(paths["observation"])[0], finder),)))
        texts = [str(text).replace("|", " ") for text in _listed(example.get("kaldi_transcription") or [])]
        row = Row(
            f"{split}/{key}",
            split,
            files[-1][0],
            tuple(name for name, _ in files[: len(parts)]),
            files[-2][0] if "noise_image" in paths else "",
            n_src=len(parts),
            speakers=tuple(str(name) for name in _listed(example.get("speaker_id") or [])),
            text="|".join(texts),
            origin=f"{table.stem} {self.reference}",
            licence=self.licence,
        )
        return Job(row, tuple(files))

    def _piece(self, path: str, finder: Finder) -> Piece:
        return Piece(finder.find(path), channel=self.channel)


def _table(root: Path) -> Path:
    if root.is_file() or (root / "sms_wsj.json").is_file():
        return root if root.is_file() else root / "sms_wsj.json"
    lists = sorted(root.glob("*.json"))
    if len(lists) != 1:
        raise InputNotFound(f"{show(root)}: {len(lists)} JSON files there, one was expected; name it as SOURCE")
    return lists[0]


def _datasets(table: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {dataset: {example id: example}}; InputNotFound or BadInput."""
    try:
        found = read_json(table, most=MOST_LIST)
    except (OSError, ValueError) as err:
        raise BadInput(f"{show(table)}: not JSON: {err}") from err
    sets = found.get("datasets") if isinstance(found, dict) else None
    if not isinstance(sets, dict) or not all(isinstance(examples, dict) for examples in sets.values()):
        raise BadInput(f"{show(table)}: no 'datasets' with examples by name in it, as sms_wsj.json has")
    return sets


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
