"""Make usepcli/samples: a small two-talker test set and one recording to try, from LibriSpeech test readers.

    python benchmarks/make_samples.py SPEECH_FOLDER [OUT]

SPEECH_FOLDER holds manifest.csv (path, label, split, licence, ...) and the recordings that it names.
Only readers of the test split take part.  Bit-identical for one seed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from usepcli.data.manifest import Manifest, Row

SEED = 20
RATE = 8000
ITEMS, SEGMENT_S = 8, 3.5
DEMO_S = 8.0
LEVEL_DB = 2.5  # one talker up by at most this, the other down by as much, as in wsj0-2mix
COMMON_DBFS = -32.0  # per talker before LEVEL_DB; quiet, because 6 dB less save one bit per sample
DEMO_DBFS = -24.0
LICENCE = "CC-BY-4.0"
Clip = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path(__file__).parents[1] / "usepcli" / "samples")
    arguments = parser.parse_args()
    speech, out = arguments.speech, arguments.out
    rng = np.random.default_rng(SEED)
    long, short = readers(speech)
    demo = demo_pair(speech, long)
    usable = [clip for clip in [*long, *short] if clip not in demo]
    order = rng.permutation(len(usable))[: 2 * ITEMS]
    pairs = [(usable[a], usable[b]) for a, b in zip(order[::2], order[1::2], strict=True)]
    rows = [write_item(speech, out / "testset", pair, rng) for pair in sorted(pairs, key=lambda p: name_of(p))]
    Manifest(rows, out / "testset", out / "testset" / "manifest.csv").write()
    write_record(out / "testset")
    mix, _ = mixture(speech, demo, DEMO_S, DEMO_DBFS, np.random.default_rng(SEED))
    save(out / "two_talkers.flac", mix)
    (out / "LICENCE.md").write_text(credits(pairs, demo), encoding="utf-8")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {len(rows)} items, {size / 1000:.0f} kB")


def readers(speech: Path) -> tuple[list[Clip], list[Clip]]:
    """Return the test readers' clips that last DEMO_S, and those that last SEGMENT_S only."""
    with open(speech / "manifest.csv", newline="", encoding="utf-8") as file:
        clips = [c for c in csv.DictReader(file) if c["split"] == "test" and c["path"].startswith("libri/")]
    clips = [c for c in clips if c["licence"] == LICENCE]
    long = [c for c in clips if float(c["duration_s"]) >= DEMO_S]
    return long, [c for c in clips if SEGMENT_S + 0.2 <= float(c["duration_s"]) < DEMO_S]


def demo_pair(speech: Path, clips: list[Clip]) -> tuple[Clip, Clip]:
    """Return a low and a high voice: the readers at the two ends of the median pitch, outermost left out."""
    ranked = sorted(clips, key=lambda clip: median_pitch(load(speech / clip["path"])))
    return ranked[1], ranked[-2]


def median_pitch(wave: np.ndarray, frame: int = 480, hop: int = 240) -> float:
    """Return the median over voiced frames of the autocorrelation pitch in Hz, between 70 and 350."""
    low, high = RATE // 350, RATE // 70
    found = []
    for start in range(0, len(wave) - frame, hop):
        x = wave[start : start + frame] * np.hanning(frame)
        auto = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * frame)) ** 2)
        if auto[0] > 0 and auto[low:high].max() > 0.5 * auto[0]:
            found.append(RATE / (low + int(auto[low:high].argmax())))
    return float(np.median(found))


def load(path: Path) -> np.ndarray:
    wave, rate = soundfile.read(path, dtype="float64")
    return soxr.resample(wave, rate, RATE, quality="VHQ")


def mixture(
    speech: Path, pair: tuple[Clip, Clip], seconds: float, dbfs: float, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the mixture (T,) and its two sources, int16; the mixture is their sum to the integer."""
    frames = round(seconds * RATE)
    offset = rng.uniform(-LEVEL_DB, LEVEL_DB)
    sources = []
    for clip, gain_db in zip(pair, (offset, -offset), strict=True):
        wave = load(speech / clip["path"])
        start = int(rng.integers(0, len(wave) - frames + 1))
        wave = wave[start : start + frames]
        fade = np.minimum(1.0, np.minimum(np.arange(frames), np.arange(frames)[::-1]) / (0.01 * RATE))
        rms = math.sqrt(float(np.mean(wave**2)))
        wave = wave * fade * 10 ** ((dbfs + gain_db) / 20) / rms
        sources.append(np.round(wave * 32768).astype(np.int32))
    total = sources[0] + sources[1]
    if max(np.abs(x).max() for x in (total, *sources)) > 32767:
        raise SystemExit(f"{name_of(pair)}: clips; choose a lower level")
    return total.astype(np.int16), [x.astype(np.int16) for x in sources]


def name_of(pair: tuple[Clip, Clip]) -> str:
    return "_".join(clip["label"].removeprefix("libri-") for clip in pair)


def write_item(speech: Path, folder: Path, pair: tuple[Clip, Clip], rng: np.random.Generator) -> Row:
    item = name_of(pair)
    mix, sources = mixture(speech, pair, SEGMENT_S, COMMON_DBFS, rng)
    for name, wave in zip(("mix", "s1", "s2"), (mix, *sources), strict=True):
        save(folder / item / f"{name}.flac", wave)
    return Row(
        id=item, split="test", mixture=f"{item}/mix.flac", sources=(f"{item}/s1.flac", f"{item}/s2.flac"),
        sample_rate=RATE, frames=len(mix), n_src=2, speakers=tuple(clip["label"] for clip in pair),
        label="read English", origin="LibriSpeech " + " ".join(map(utterance, pair)), licence=LICENCE,
    )  # fmt: skip


def utterance(clip: Clip) -> str:
    return Path(clip["path"]).stem


def save(path: Path, wave: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE, subtype="PCM_16", format="FLAC", compression_level=1.0)


def write_record(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*.flac"))
    record: dict[str, Any] = {
        "root": ".",
        "corpus": "speakers",
        "made_by": "benchmarks/make_samples.py",
        "settings": {
            "seed": SEED, "sample_rate": RATE, "n_src": 2, "items": ITEMS, "segment_s": SEGMENT_S,
            "level_db": LEVEL_DB, "common_dbfs": COMMON_DBFS,
        },
        "tables": {Manifest.FILE: Manifest.read(folder).extent},
        "sha256": {p.relative_to(folder).as_posix(): digest(p) for p in files},
    }  # fmt: skip
    (folder / "prepare.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def credits(pairs: list[tuple[Clip, Clip]], demo: tuple[Clip, Clip]) -> str:
    lines = [
        "# Licence of the sample recordings",
        "",
        "Every recording below is an excerpt of LibriSpeech (V. Panayotov, G. Chen, D. Povey and",
        'S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015),',
        "read by volunteers of LibriVox, and is licensed under the Creative Commons Attribution 4.0",
        "International licence (CC BY 4.0, https://creativecommons.org/licenses/by/4.0/).  The program's",
        "own licence does not cover them.",
        "",
        "Changes made: cut to a few seconds, resampled to 8 kHz, levels changed, 10 ms fades, quantised",
        "to 16 bits, and pairs of readers added together.  The readers are kept for testing: no released",
        "model was trained on them.  Made by `benchmarks/make_samples.py`.",
        "",
        "| file | LibriSpeech utterances (reader-chapter-number) |",
        "|---|---|",
    ]
    rows = [("two_talkers.flac", demo)]
    rows += [(f"testset/{name_of(pair)}/", pair) for pair in sorted(pairs, key=lambda p: name_of(p))]
    lines += [f"| `{file}` | {utterance(a)} and {utterance(b)} |" for file, (a, b) in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
