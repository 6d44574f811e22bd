"""What `usep evaluate` makes of speech: word errors, and estimates for a recogniser outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from usepcli.cli._evaluate_jobs import Asked, Job
from usepcli.errors import BadInput, UsageError

if TYPE_CHECKING:
    from usepcli.engine.scoring.asr import Texts
    from usepcli.engine.scoring.ordered import References
    from usepcli.engine.scoring.results import Results
    from usepcli.engine.scoring.scoring import Signals


def check(asked: Asked) -> None:
    """UsageError for options of word errors that do not go together."""
    sources = [place for place in (asked.hypotheses, asked.asr) if place is not None]
    if "wer" in asked.metric and len(sources) != 1:
        raise UsageError(
            "--metric wer counts what a recogniser understood: give its words with --hypotheses FILE, or a model "
            "on this machine with --asr FOLDER, one of them"
        )
    if sources and "wer" not in asked.metric:
        raise UsageError("--hypotheses and --asr are read for --metric wer: add it, or leave them away")
    if asked.texts is not None and "wer" not in asked.metric and asked.kaldi_export is None:
        raise UsageError("--texts is read for --metric wer and --kaldi-export: add one of them, or leave it away")
    if "wer" in asked.metric and asked.files and asked.texts is None:
        raise UsageError("--metric wer needs to know what was said in --references: give --texts FILE")


def refuse(job: Job, asked: Asked) -> None:
    """OutputError or BadInput, before anything is scored, where the export would fail or be empty at the end."""
    if asked.kaldi_export is None:
        return
    from usepcli.engine.scoring import kaldi_export

    kaldi_export.refuse_existing(asked.kaldi_export, asked.overwrite)
    if job.manifest is not None and not any(row.sources for row in job.manifest.rows[: asked.limit or None]):
        raise BadInput(
            f"{job.manifest.path}: no item lists sources, in whose order --kaldi-export names the estimates; "
            "give a set with sources, or use `usep separate`"
        )


def add_words(found: Results, job: Job, asked: Asked) -> None:
    """Count word errors into the summary and wer.csv."""
    from usepcli.engine.scoring import asr, results

    references = _texts(job, asked)
    if asked.hypotheses is not None:
        hypotheses = asr.read_texts(asked.hypotheses)
        heard = {"hypotheses": str(asked.hypotheses.resolve())}
    else:
        transcriber = asr.Transcriber(asked.asr or "", job.device, asked.language)
        asked.say(f"recogniser: {asked.asr}")
        hypotheses, heard = asr.transcribe(_items(job, asked), transcriber), transcriber.facts
    rows = asr.score_wer(hypotheses, references)
    found.tables[results.WORDS] = (rows, list(asr.COLUMNS))
    found.facts["wer"] = {**heard, **asr.pooled(rows)._asdict()}
    found.conventions["wer"] = asr.NOTES
    several = any("system" in row for row in found.summary)
    found.summary += [{"system": "separated", **row} if several else row for row in asr.summary(rows)]


def export(found: Results, job: Job, asked: Asked, out: Path) -> None:
    """Write the estimates for Kaldi into a folder."""
    from usepcli.engine.scoring import kaldi_export

    told = asked.texts is not None or any(row.text for row in (job.manifest.rows if job.manifest else []))
    texts = _texts(job, asked) if told else {}
    done = kaldi_export.export(_items(job, asked), out, job.manifest, texts, asked.overwrite)
    found.facts["kaldi_export"] = done
    asked.say(f"for Kaldi: {out}, {done['utterances']} utterances, {done['texts']} with texts")


def _texts(job: Job, asked: Asked) -> Texts:
    """Return the reference texts of the items that are scored: --texts, or the manifest's."""
    from usepcli.engine.scoring import asr, ordered

    if asked.texts is None and job.manifest is not None:
        return asr.texts_of(job.manifest, asked.limit)
    if asked.words_alone and job.manifest is None:
        return asr.read_texts(asked.texts or "")
    items = ordered.of_manifest(job.manifest, asked.limit) if job.manifest is not None else _references(asked)
    return {key: text for key, text in asr.read_texts(asked.texts or "").items() if key[0] in items}


def _references(asked: Asked) -> References:
    from usepcli.engine.scoring import layouts

    _, found = layouts.find_sources(Path(asked.references or ""))
    return {item: found[item] for item in list(found)[: asked.limit or None]}


def _items(job: Job, asked: Asked) -> Iterator[Signals]:
    """Yield what is scored, estimates in the references' order."""
    from usepcli.engine.scoring import ordered

    if job.net is not None and job.manifest is not None:
        yield from ordered.by_model(job.net, job.manifest, device=job.device, limit=asked.limit, say=asked.say)
    else:
        yield from ordered.by_files(Path(asked.estimates or ""), _references(asked))
