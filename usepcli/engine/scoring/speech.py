"""What an evaluation makes of speech: word errors, and estimates for a recogniser outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from usepcli import versions
from usepcli.engine.scoring.jobs import Folders, Job, Means, Rows, Speech
from usepcli.errors import BadInput, UsageError

if TYPE_CHECKING:
    from usepcli.engine.scoring.asr import Texts
    from usepcli.engine.scoring.ordered import References
    from usepcli.engine.scoring.results import Results
    from usepcli.engine.scoring.scoring import Signals


def check(speech: Speech, metric: Sequence[str], folders: Folders) -> None:
    """UsageError for options of word errors that do not go together, MissingDependency without the recogniser's."""
    sources = [place for place in (speech.hypotheses, speech.asr) if place is not None]
    if "wer" in metric and len(sources) != 1:
        raise UsageError(
            "--metric wer counts what a recogniser understood: give its words with --hypotheses FILE, or a model "
            "on this machine with --asr FOLDER, one of them"
        )
    if sources and "wer" not in metric:
        raise UsageError("--hypotheses and --asr are read for --metric wer: add it, or leave them away")
    if speech.texts is not None and "wer" not in metric and speech.kaldi_export is None:
        raise UsageError("--texts is read for --metric wer and --kaldi-export: add one of them, or leave it away")
    if "wer" in metric and folders.named and speech.texts is None:
        raise UsageError("--metric wer needs to know what was said in --references: give --texts FILE")
    if speech.asr is not None and (speech.asr / "config.json").is_file():  # what else it may lack is told by itself
        versions.check("--asr", "asr")


def words_alone(speech: Speech, metric: Sequence[str], protocol: str, folders: Folders) -> bool:
    """Return whether nothing but a table of hypotheses is scored: no model separates, no file is opened."""
    else_asked = protocol or speech.kaldi_export or folders.named
    return speech.hypotheses is not None and set(metric) == {"wer"} and not else_asked


def refuse(job: Job, place: Path | None, limit: int, overwrite: bool) -> None:
    """OutputError or BadInput, before anything is scored, where the export would fail or be empty at the end."""
    if place is None:
        return
    from usepcli.engine.scoring import kaldi_export

    kaldi_export.refuse_existing(place, overwrite)
    if job.manifest is not None and not any(row.sources for row in job.manifest.rows[: limit or None]):
        raise BadInput(
            f"{job.manifest.path}: no item lists sources, in whose order --kaldi-export names the estimates; "
            "give a set with sources, or use `usep separate`"
        )


def add_words(found: Results, job: Job, speech: Speech, folders: Folders, means: Means) -> Rows:
    """Count word errors into the summary and wer.csv; return the items that nobody could listen to, and why."""
    from usepcli.engine.scoring import asr, results

    references = _texts(job, speech, folders, means)
    lost: Rows = []
    if speech.hypotheses is not None:
        hypotheses = asr.read_texts(speech.hypotheses, means.say)
        heard = {"hypotheses": str(speech.hypotheses.resolve())}
    else:
        transcriber = asr.Transcriber(speech.asr or "", job.device, speech.language)
        means.say(f"recogniser: {speech.asr}")
        hypotheses, heard = asr.transcribe(_items(job, folders, means, lost), transcriber), transcriber.facts
    rows = asr.score_wer(hypotheses, references)
    why = {row["id"]: row["reason"] for row in lost}
    for row in rows:
        if row["id"] in why and row["reason"]:
            row["reason"] = why[row["id"]]
    found.tables[results.WORDS] = (rows, list(asr.COLUMNS))
    found.facts["wer"] = {**heard, **asr.pooled(rows)._asdict()}
    found.conventions["wer"] = asr.NOTES
    several = any("system" in row for row in found.summary)
    found.summary += [{"system": "separated", **row} if several else row for row in asr.summary(rows)]
    return lost


def export(
    found: Results, job: Job, speech: Speech, folders: Folders, means: Means, out: Path, overwrite: bool
) -> Rows:
    """Write the estimates for Kaldi into a folder; return the items that could not be separated or read, and why."""
    from usepcli.engine.scoring import kaldi_export

    told = speech.texts is not None or any(row.text for row in (job.manifest.rows if job.manifest else []))
    texts = _texts(job, speech, folders, means) if told else {}
    lost: Rows = []
    done = kaldi_export.export(_items(job, folders, means, lost), out, job.manifest, texts, overwrite)
    found.facts["kaldi_export"] = done
    means.say(f"for Kaldi: {out}, {done['utterances']} utterances, {done['texts']} with texts")
    return lost


def _texts(job: Job, speech: Speech, folders: Folders, means: Means) -> Texts:
    """Return the reference texts of the items that are scored: --texts, or the manifest's."""
    from usepcli.engine.scoring import asr, ordered

    if speech.texts is None and job.manifest is not None:
        return asr.texts_of(job.manifest, means.limit)
    said = asr.read_texts(speech.texts or "", means.say)
    if job.manifest is None and not folders.named:  # words alone
        return said
    items = ordered.of_manifest(job.manifest, means.limit) if job.manifest else _references(folders, means.limit)
    return {key: text for key, text in said.items() if key[0] in items}


def _references(folders: Folders, limit: int) -> References:
    from usepcli.engine.scoring import layouts

    _, found = layouts.find_sources(Path(folders.references or ""))
    return {item: found[item] for item in list(found)[: limit or None]}


def _items(job: Job, folders: Folders, means: Means, lost: Rows) -> Iterator[Signals]:
    """Yield what is scored, estimates in the references' order, each source in one channel.

    An item that cannot be had stops no other: it stands in `lost` with its reason.
    """
    from usepcli import guard
    from usepcli.engine.scoring import channels

    said = False
    for name, had in _had(job, folders, means):
        try:
            item = channels.loudest(signals := had())
        except Exception as error:
            lost.append({"id": name, "reason": guard.reason(error, name)})
            continue
        if signals.ref.ndim > 2 and not said:
            said = True
            count = signals.ref.shape[1]
            means.say(f"channels: {count}; for its words a source is heard where its reference is loudest")
        yield item


def _had(job: Job, folders: Folders, means: Means) -> Iterator[tuple[str, Callable[[], Signals]]]:
    """Yield the name of each item that is scored, and how to have it with its estimates in order."""
    from usepcli.engine.scoring import ordered

    if job.net is None or job.manifest is None:
        yield from ordered.by_files(Path(folders.estimates or ""), _references(folders, means.limit), means.channels)
        return
    from usepcli.engine.scoring.evaluate import separated

    found = separated(
        job.net, job.manifest, device=job.device, limit=means.limit, channels=means.channels, say=means.say,
        strict=False,
    )  # fmt: skip
    for item in found:
        yield item.id, partial(_answered, item)


def _answered(item: Signals) -> Signals:
    from usepcli.engine.scoring import ordered
    from usepcli.engine.scoring.scoring import FAILED

    if item.note.startswith(FAILED):
        raise BadInput(item.note.removeprefix(FAILED))
    return ordered.in_order(item)
