"""What an evaluation makes of speech: word errors, and estimates for a recogniser outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli import versions
from usepcli.engine.journal import ABOUT
from usepcli.engine.scoring.jobs import Folders, Job, Means, Rows, Speech
from usepcli.errors import BadInput, UsageError
from usepcli.files import tried

if TYPE_CHECKING:
    from usepcli.engine.journal import Journal, Part
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
    tried(place)
    if job.manifest is not None and not any(row.sources for row in job.manifest.rows[: limit or None]):
        raise BadInput(
            f"{job.manifest.path}: no item lists sources, in whose order --kaldi-export names the estimates; "
            "give a set with sources, or use `usep separate`"
        )


def hear(job: Job, speech: Speech, folders: Folders, means: Means, journal: Journal) -> None:
    """Let the recogniser write down the items that are ours and not done; nothing to do for a table of hypotheses."""
    from usepcli.engine.scoring import asr

    part = journal.part("wer")
    if speech.asr is None or not (left := part.left(_count(job, folders, means))):
        return
    job.open()
    transcriber = asr.Transcriber(speech.asr, job.device, speech.language)
    means.say(f"recogniser: {speech.asr}")
    journal.part(f"{ABOUT}recogniser").add(0, transcriber.facts)
    for number, item in _items(job, folders, means, left):
        if isinstance(item, dict):
            part.add(number, item)
            continue
        texts = asr.transcribe([item], transcriber)
        part.add(number, {"id": item.id, "texts": [[source, text] for (_, source), text in texts.items()]})


def add_words(found: Results, job: Job, speech: Speech, folders: Folders, means: Means, journal: Journal) -> Rows:
    """Count word errors into the summary and wer.csv; return the items that nobody could listen to, and why."""
    from usepcli.engine.scoring import asr, results

    references = _texts(job, speech, folders, means)
    lost: Rows = []
    if speech.hypotheses is not None:
        hypotheses = asr.read_texts(speech.hypotheses, means.say)
        heard = {"hypotheses": str(speech.hypotheses.resolve())}
    else:
        items = journal.part("wer").values()
        lost = [item for item in items if "reason" in item]
        hypotheses = {(item["id"], source): text for item in items for source, text in item.get("texts", ())}
        heard = journal.part(f"{ABOUT}recogniser").done.get(0, {})
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
    found: Results, job: Job, speech: Speech, folders: Folders, means: Means, out: Path, overwrite: bool, begun: Part
) -> Rows:
    """Write the estimates for Kaldi into a folder; return the items that could not be separated or read, and why.

    begun: says that the folder's files are those of this very export, which a stop left there.
    """
    from usepcli.engine.scoring import kaldi_export

    told = speech.texts is not None or any(row.text for row in (job.manifest.rows if job.manifest else []))
    texts = _texts(job, speech, folders, means) if told else {}
    lost: Rows = []
    overwrite = overwrite or bool(begun.done)
    begun.add(0, str(out))
    job.open()

    def had() -> Iterator[Signals]:
        for _, item in _items(job, folders, means, range(_count(job, folders, means))):
            if isinstance(item, dict):
                lost.append(item)
            else:
                yield item

    done = kaldi_export.export(had(), out, job.manifest, texts, overwrite)
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


def _count(job: Job, folders: Folders, means: Means) -> int:
    """Return the number of items that are scored."""
    if job.manifest is None:
        return len(_references(folders, means.limit))
    return len(job.manifest.rows[: means.limit or None])


def _items(
    job: Job, folders: Folders, means: Means, numbers: Sequence[int]
) -> Iterator[tuple[int, Signals | dict[str, Any]]]:
    """Yield the items of these numbers, estimates in the references' order, each source in one channel.

    An item that cannot be had stops no other: its id and the reason come in its place.
    """
    from usepcli import guard
    from usepcli.engine.scoring import channels

    said = False
    for number, (name, had) in zip(numbers, _had(job, folders, means, numbers), strict=True):
        try:
            item = channels.loudest(signals := had())
        except Exception as error:
            yield number, {"id": name, "reason": guard.reason(error, name)}
            continue
        if signals.ref.ndim > 2 and not said:
            said = True
            count = signals.ref.shape[1]
            means.say(f"channels: {count}; for its words a source is heard where its reference is loudest")
        yield number, item


def _had(
    job: Job, folders: Folders, means: Means, numbers: Sequence[int]
) -> Iterator[tuple[str, Callable[[], Signals]]]:
    """Yield the name of each item of these numbers, and how to have it with its estimates in order."""
    from usepcli.engine.scoring import ordered

    if job.net is None or job.manifest is None:
        every = _references(folders, means.limit)
        names = list(every)
        some = {names[n]: every[names[n]] for n in numbers}
        yield from ordered.by_files(Path(folders.estimates or ""), some, means.channels)
        return
    from usepcli.engine.scoring.evaluate import separated

    manifest = replace(job.manifest, rows=[job.manifest.rows[n] for n in numbers])
    found = separated(job.net, manifest, device=job.device, channels=means.channels, say=means.say, strict=False)
    for item in found:
        yield item.id, partial(_answered, item)


def _answered(item: Signals) -> Signals:
    from usepcli.engine.scoring import ordered
    from usepcli.engine.scoring.scoring import FAILED

    if item.note.startswith(FAILED):
        raise BadInput(item.note.removeprefix(FAILED))
    return ordered.in_order(item)
