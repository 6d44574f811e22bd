"""Separated speech as a Kaldi recogniser takes it, for word error rates as the papers on SMS-WSJ report them.

    wav8k/ID_0.wav  wav8k/ID_1.wav ...   8 kHz, 16 bit, numbered in the order of the references
    estimates.json                       {"datasets": {SPLIT: {ID: {...}}}}, the keys of sms_wsj.json
    wav.scp  utt2spk  spk2utt  utt2dur   a Kaldi data folder; utterances are called SPEAKER-ID_K
    text                                 the texts of the references, as they are

SMS-WSJ's own scripts need wav8k alone, as their audio_dir with the file name {ex_id}_{}.wav.  Kaldi itself is not
run, and a rate from it is comparable with no other recogniser's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring.asr import source_name
from usepcli.errors import BadInput, OutputError
from usepcli.files import write_text

if TYPE_CHECKING:
    from usepcli.engine.scoring.scoring import Signals

RATE = 8000
WAVES, RECORD = "wav8k", "estimates.json"
_TABLES = ("wav.scp", "utt2spk", "spk2utt", "utt2dur", "text")
# The largest sample of 16 bits; a source beyond it is turned down, which a recogniser does not notice.
_FULL = 1 - 2.0**-15


def export(
    items: Iterable[Signals],
    out: Path,
    manifest: Manifest | None = None,
    texts: Mapping[tuple[str, str], str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write items whose estimates are in the references' order (scoring/ordered.py); return counts and the folder.

    manifest: speakers and splits.  texts: of each (id, source), as engine/scoring/asr.py reads them.
    OutputError where `out` holds an export, BadInput for names with spaces.
    """
    refuse_existing(out, overwrite)
    rows = {row.id: row for row in manifest.rows} if manifest else {}
    texts = texts or {}
    tables: dict[str, dict[str, str]] = {name: {} for name in _TABLES}
    datasets: dict[str, dict[str, Any]] = {}
    for item in items:
        row = rows.get(item.id) or Row(item.id)
        example = _write_item(item, row, texts, out, overwrite)
        datasets.setdefault(row.split or "test", {})[item.id] = example
        for k, (name, speaker) in enumerate(zip(example["audio_path"]["estimate"], example["speaker_id"], strict=True)):
            key = f"{speaker}-{item.id}_{k}" if row.speakers else speaker
            tables["wav.scp"][key] = str((out / name).resolve())
            tables["utt2spk"][key] = speaker
            tables["utt2dur"][key] = f"{example['num_samples'] / RATE:.3f}"
            if text := texts.get((item.id, source_name(item.sources[k]))):
                tables["text"][key] = " ".join(text.split())
    for key, speaker in sorted(tables["utt2spk"].items()):
        tables["spk2utt"][speaker] = " ".join([*tables["spk2utt"].get(speaker, "").split(), key])
    _write_tables(out, tables)
    write_text(out / RECORD, json.dumps({"datasets": datasets}, indent=1, ensure_ascii=False) + "\n")
    return {
        "folder": str(out.resolve()), "items": sum(map(len, datasets.values())),
        "utterances": len(tables["wav.scp"]), "texts": len(tables["text"]),
    }  # fmt: skip


def _write_item(
    item: Signals, row: Row, texts: Mapping[tuple[str, str], str], out: Path, overwrite: bool
) -> dict[str, Any]:
    """Write one item's estimates and return its entry in estimates.json."""
    from usepcli.audio import io
    from usepcli.audio.resample import resample

    n_src = len(item.est)
    speakers = list(row.speakers) or [f"{item.id}_{k}" for k in range(n_src)]
    if len(speakers) != n_src:
        raise BadInput(f"item {item.id}: {len(speakers)} speakers for {n_src} sources; correct the manifest")
    odd = next((name for name in (item.id, *speakers) if name.split() != [name] or ".." in Path(name).parts), None)
    if odd is not None:
        raise BadInput(f"item {item.id}: '{odd}' cannot be a Kaldi name; expected one without spaces and '..'")
    if not item.rate:
        raise BadInput(f"item {item.id}: no sample rate")
    waves = resample(np.nan_to_num(item.est.astype(np.float32)), item.rate, RATE)  # (K,T)
    names = [f"{WAVES}/{item.id.lstrip('/')}_{k}.wav" for k in range(n_src)]
    for name, wave in zip(names, waves, strict=True):
        peak = float(np.abs(wave).max(initial=0.0))
        io.write(out / name, wave * min(1.0, _FULL / peak) if peak else wave, RATE, "PCM_16", overwrite)
    example: dict[str, Any] = {
        "audio_path": {"estimate": names}, "num_samples": waves.shape[1], "num_speakers": n_src,
        "speaker_id": speakers,
    }  # fmt: skip
    said = [texts.get((item.id, source_name(source)), "") for source in item.sources]
    return example | ({"kaldi_transcription": said} if any(said) else {})


def _write_tables(out: Path, tables: Mapping[str, Mapping[str, str]]) -> None:
    for name, table in tables.items():
        (out / name).unlink(missing_ok=True)
        if table:
            # Kaldi wants the order of bytes.
            lines = sorted((f"{key} {value}\n" for key, value in table.items()), key=lambda line: line.encode())
            write_text(out / name, "".join(lines))


def refuse_existing(out: Path, overwrite: bool) -> None:
    """OutputError where a folder holds an export already."""
    there = [name for name in (WAVES, RECORD, *_TABLES) if (out / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{out / there[0]}: exists already; choose another folder, or --overwrite")
