"""What was understood of separated speech: tables of hypotheses, their word error rate, and a recogniser on disk.

The rate depends on the recogniser as much as on the separation: rates of two recognisers are never comparable.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli.data.rows import read as read_table
from usepcli.engine import tables
from usepcli.errors import BadInput, InputNotFound, did_you_mean
from usepcli.files import read_json
from usepcli.metrics.wer import NORMALISATION, Counts, align, pool, wer, words
from usepcli.versions import need

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.engine.scoring.scoring import Signals

__all__ = ["COLUMNS", "NOTES", "Counts", "Transcriber", "read_texts", "score_wer", "summary", "texts_of", "wer"]

COLUMNS = ("id", "source", "words", "substitutions", "deletions", "insertions", "wer", "reason")
NOTES = {
    "wer": "100 (substitutions + deletions + insertions) / words of reference, in percent; the mean is pooled: sums "
    "over all utterances before the division",
    "interval": "95 %, Student t, of the pooled rate, the sources of one item counted as one cluster",
    "normalisation": NORMALISATION,
    "assignment": "estimates belong to references as for the other metrics; a file of hypotheses says it itself",
}
RATE, PEAK = 16000, 0.95
_SHORTEST_S, _WHISPER_S = 0.5, 30

# (item, source) -> text
Texts = dict[tuple[str, str], str]
Say = Callable[[str], None]


def read_texts(path: str | Path, say: Say = lambda line: None) -> Texts:
    """Return the texts of a table with the columns id, source (s1, spk1 or 1) and text: tabs between them, or CSV.

    InputNotFound when absent, BadInput for other columns, a cut, or a source that comes twice; say: of a last line
    without an end.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            tabs = b"\t" in file.readline()
        # Transcripts may well hold a quotation mark, which means nothing between tabs.
        kind: Mapping[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
        table = read_table(path, errors="strict", dialect=kind)
    except FileNotFoundError as fault:
        raise InputNotFound(f"{path}: no such file; it should hold the columns id, source, text") from fault
    except OSError as fault:
        raise BadInput(f"{path}: not a table in UTF-8: {fault}") from fault
    for name in ("id", "source", "text"):
        if name not in table.columns:
            near = did_you_mean(name, table.columns or [""])
            raise BadInput(f"{path}: no column '{name}'{near}; expected the columns id, source, text")
    found: Texts = {}
    for row, line in zip(table.rows, table.lines, strict=True):
        key = row["id"], source_name(row["source"])
        if key in found:
            raise BadInput(f"{path}:{line}: {key[0]} {key[1]} a second time; expected one text per source")
        found[key] = row["text"]
    if not table.ended:
        say(f"{path}: its last line has no end; if the table was cut short, the last text is, too")
    return found


def source_name(name: str) -> str:
    """Return s1 for 1, s1, spk1 or source-1: what files and tables call one source; other names stay."""
    match = re.fullmatch(r"(?:[a-z]+[-_]?)?(\d+)", name.strip(), re.IGNORECASE)
    return f"s{int(match[1])}" if match else name


def texts_of(manifest: Manifest, limit: int = 0) -> Texts:
    """Return the reference texts of a manifest, talkers separated by '|' in its column text.

    BadInput where there are not as many as sources, or none at all.
    """
    rows = manifest.rows[:limit] if limit else manifest.rows
    found: Texts = {}
    for row in rows:
        n_src = len(row.sources) or row.n_src
        said = row.text.split("|") if row.text else [""] * n_src
        if len(said) != n_src:
            raise BadInput(
                f"{manifest.path}: item {row.id}: {len(said)} texts for {n_src} sources; separate them by '|'"
            )
        found.update({(row.id, f"s{k}"): text.strip() for k, text in enumerate(said, 1)})
    if not any(found.values()):
        raise BadInput(
            f"{manifest.path}: no texts; word errors need them in its column text, or in a table of the columns "
            "id, source, text"
        )
    return found


def score_wer(hypotheses: Texts, references: Texts) -> list[dict[str, Any]]:
    """Return one row per source of references: words, errors of each kind, wer in percent, or the reason without.

    An empty hypothesis is one whose words are all missing.  InputNotFound where no source has a hypothesis.
    """
    if not any(key in hypotheses for key in references):
        first, said = next(iter(references), ("", "")), next(iter(hypotheses), ("", ""))
        raise InputNotFound(
            f"no hypothesis for any of {len(references)} sources; the first is {' '.join(first)}, of the hypotheses "
            f"{' '.join(said).strip() or 'there is none'}; give them the same id and source"
        )
    rows = []
    for (item, source), text in references.items():
        row: dict[str, Any] = dict.fromkeys(COLUMNS, math.nan) | {"id": item, "source": source, "reason": ""}
        reference, hypothesis = words(text), hypotheses.get((item, source))
        if hypothesis is None:
            row["reason"] = "no hypothesis"
        elif not reference:
            row["reason"] = "no words in the reference"
        else:
            found = align(words(hypothesis), reference)
            row |= {"words": found.N, "substitutions": found.S, "deletions": found.D, "insertions": found.I}
            row["wer"] = round(found.rate, 6)
        rows.append(row)
    return rows


def pooled(rows: Iterable[Mapping[str, Any]]) -> Counts:
    """Return the sums of errors and words over the rows of score_wer that have them."""
    kinds = ("substitutions", "deletions", "insertions", "words")
    return pool(Counts(*(int(row[kind]) for kind in kinds)) for row in rows if not row["reason"])


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the row of summary.csv: the pooled rate as mean, the median over utterances, interval, n, missing."""
    counted = [row for row in rows if not row["reason"]]
    total = pooled(counted)
    if not total.N:
        return [{"metric": "wer", **tables.summarise([])._asdict(), "missing": len(rows)}]
    per_word = total.N / len(counted)
    # A ratio of sums varies as the mean of (errors - rate words) / (mean words) does, to first order.
    errors = [row["wer"] * row["words"] / 100 for row in counted]
    shifted = [
        total.rate + 100 * (e - total.rate / 100 * row["words"]) / per_word
        for e, row in zip(errors, counted, strict=True)
    ]
    spread = tables.summarise(shifted, [row["id"] for row in counted])
    median = tables.summarise([row["wer"] for row in counted]).median
    result = {**spread._asdict(), "mean": total.rate, "median": median}
    return [{"metric": "wer", **result, "missing": len(rows) - len(counted)}]


class Transcriber:
    """A recogniser in a folder on this machine, in the Hugging Face layout: Whisper, or a CTC model as wav2vec 2.0.

    Nothing is fetched, no code from the folder is run, and weights are read from .safetensors alone.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", language: str = "en") -> None:
        """Load it.

        language: what a Whisper model of many languages writes down.  MissingDependency without transformers,
        InputNotFound or BadInput for a folder that holds no such model.
        """
        folder = Path(folder)
        kind = _model_type(folder)
        library = _library()
        self.whisper, self._language, self._device = kind == "whisper", language, device
        # Said, not left to chance: without it a folder with code of its own asks on the terminal whether to run it.
        how = {"local_files_only": True, "trust_remote_code": False}
        loader = library.AutoModelForSpeechSeq2Seq if self.whisper else library.AutoModelForCTC
        try:
            self._processor = library.AutoProcessor.from_pretrained(str(folder), **how)
            model = loader.from_pretrained(str(folder), use_safetensors=True, **how)
        except (OSError, ValueError, KeyError, ImportError) as fault:
            why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
            raise BadInput(f"{folder}: no recogniser that can be loaded: {why}") from fault
        self._model = model.eval().to(device)
        self.facts = {"asr": str(folder), "model_type": kind, "language": language if self.whisper else ""}

    def __call__(self, wave: np.ndarray, rate: int) -> str:
        """Return what is said in a wave (T,) at `rate` Hz: resampled to 16 kHz, peak 0.95; '' for silence."""
        import torch

        from usepcli.audio.resample import resample

        peak = float(np.abs(wave).max(initial=0.0))
        if not peak or not math.isfinite(peak):
            return ""
        heard = resample(np.asarray(wave, np.float32) * np.float32(PEAK / peak), rate, RATE)
        heard = np.pad(heard, (0, max(0, round(_SHORTEST_S * RATE) - len(heard))))
        with torch.inference_mode():
            ids = self._generated(heard) if self.whisper else self._aligned(heard)
        return str(self._processor.batch_decode(ids, skip_special_tokens=True)[0]).strip()

    def _aligned(self, wave: np.ndarray) -> Any:
        given = self._processor(wave, sampling_rate=RATE, return_tensors="pt").to(self._device)
        return self._model(**given).logits.argmax(-1).cpu()

    def _generated(self, wave: np.ndarray) -> Any:
        # Beyond 30 s the features must not be cut, and the model finds its way by time stamps.
        long = len(wave) > _WHISPER_S * RATE
        if long and not hasattr(self._model.generation_config, "no_timestamps_token_id"):
            raise BadInput(
                f"{self.facts['asr']}: generation_config.json names no time stamps, so {len(wave) / RATE:.0f} s are "
                f"too long; at most {_WHISPER_S} s without them"
            )
        cut = {"truncation": False, "padding": "longest"} if long else {}
        given = self._processor(wave, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True, **cut)
        many = getattr(self._model.generation_config, "is_multilingual", False)
        asked = {"language": self._language, "task": "transcribe"} if many else {}
        ids = self._model.generate(**given.to(self._device), return_timestamps=long, do_sample=False, **asked)
        return ids.cpu()


def transcribe(items: Iterable[Signals], transcriber: Transcriber) -> Texts:
    """Return what is said in each estimate of items whose estimates are in the references' order (engine/ordered)."""
    return {
        (item.id, source_name(source)): transcriber(wave, item.rate or RATE)
        for item in items
        for source, wave in zip(item.sources, item.est, strict=True)
    }


def _model_type(folder: Path) -> str:
    config = folder / "config.json"
    if not config.is_file():
        raise InputNotFound(
            f"{folder}: no config.json in it; expected a folder on this machine with a Whisper or CTC model"
        )
    try:
        about = read_json(config)
        kind, classes = str(about["model_type"]), [str(name) for name in about.get("architectures") or []]
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise BadInput(f"{config}: no description of a model: {fault!r}") from fault
    if kind != "whisper" and not any(name.endswith("ForCTC") for name in classes):
        raise BadInput(f"{config}: model_type {kind}, {classes}; expected whisper, or a class that ends in ForCTC")
    return kind


def _library() -> Any:
    transformers = need("--asr", "asr")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
