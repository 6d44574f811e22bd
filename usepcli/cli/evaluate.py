"""`usep evaluate`: score a model on a test set, or anybody's separated files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usepcli.cli import _evaluate_jobs as jobs
from usepcli.cli import _evaluate_report as pages
from usepcli.cli import _options as options


def complete_protocol(incomplete: str) -> list[str]:
    """Return the protocols whose names start with `incomplete`."""
    from usepcli.engine.scoring.protocols import PROTOCOLS

    return [name for name in sorted(PROTOCOLS) if name.startswith(incomplete)]


def complete_published(incomplete: str) -> list[str]:
    """Return the profiles with published numbers whose names start with `incomplete`."""
    from usepcli.engine.scoring.compare import profiles

    return [name for name in profiles() if name.startswith(incomplete)]


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL|RUN",
            help="Released model, .safetensors file or run folder; by default the latest run.",
            autocompletion=options.complete_model,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Manifest, or its folder; by default the model's own.", show_default=False),
    ] = None,
    split: Annotated[
        str,
        typer.Option("--split", help="Split of the manifest; by default the model's test split, or test."),
    ] = "",
    metric: options.Metrics = [],  # noqa: B006 - Typer copies it
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the results; by default RUN/eval_SPLIT, or evaluation."),
    ] = None,
    estimates: Annotated[
        Path | None, typer.Option("--estimates", help="Folder of separated files.", show_default=False)
    ] = None,
    references: Annotated[
        Path | None, typer.Option("--references", help="Folder of true sources.", show_default=False)
    ] = None,
    mixtures: Annotated[
        Path | None,
        typer.Option("--mixtures", help="Folder of mixtures, for improvements such as si-snri.", show_default=False),
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Go on where estimates are missing; their rows say so.")
    ] = False,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="Score mixtures of one to four sources as a paper does: mixit2020, fuss-google, saijo2023 or "
            "advpit2023.",
            autocompletion=complete_protocol,
            show_default=False,
        ),
    ] = "",
    unprocessed: Annotated[
        bool, typer.Option("--unprocessed", help="Score the mixture itself, too, as if it were every estimate.")
    ] = False,
    versus: Annotated[
        list[Path],
        typer.Option(
            "--versus",
            help="Earlier results (folder or items.csv) of the same data: differences with their intervals; may be "
            "repeated.",
        ),
    ] = [],  # noqa: B006 - Typer copies it
    compare: Annotated[
        str,
        typer.Option(
            "--compare",
            metavar="PROFILE",
            help="The numbers published for a profile beside these, where data and protocol are the same.",
            autocompletion=complete_published,
            show_default=False,
        ),
    ] = "",
    stats: Annotated[
        bool,
        typer.Option("--stats", help="How the scores spread: within mixtures over --versus, else within --by."),
    ] = False,
    by: Annotated[
        str,
        typer.Option("--by", help="Tell conditions apart by a column: n_src, k, source, label, origin, speakers."),
    ] = "",
    report: Annotated[
        bool,
        typer.Option("--report", help="Write report.html: scores, how they spread, and items to listen to."),
    ] = False,
    report_by: Annotated[
        str,
        typer.Option("--report-by", metavar="SCORE", help="What chooses the items of --report; by default the first."),
    ] = "",
    listening_test: Annotated[
        Path | None,
        typer.Option(
            "--listening-test", metavar="DIR", help="Write a blind test for listeners and its key, and score nothing."
        ),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", "-n", min=1, help="Questions of --listening-test.")] = 30,
    against: Annotated[
        str,
        typer.Option("--against", metavar="MODEL|DIR", help="Second system of --listening-test: model or estimates."),
    ] = "",
    listening_kind: Annotated[
        str,
        typer.Option(
            "--listening-kind",
            help="which (Which do you hear? A, B, both, neither) or preference (A or B); preference with --against.",
            autocompletion=pages.complete_kind,
            show_default=False,
        ),
    ] = "",
    listening_score: Annotated[
        list[Path],
        typer.Option("--listening-score", metavar="ANSWERS", help="Score saved answers, or a folder; may be repeated."),
    ] = [],  # noqa: B006 - Typer copies it
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The test's key.csv; by default the one beside the answers.", show_default=False),
    ] = None,
    mom_pairs: Annotated[
        int, typer.Option("--mom-pairs", min=1, help="Sums of two mixtures for --metric momi, at most.")
    ] = 1000,
    hypotheses: Annotated[
        Path | None,
        typer.Option(
            "--hypotheses",
            help="For --metric wer: a table of what was recognised, columns id, source, text.",
            show_default=False,
        ),
    ] = None,
    asr: Annotated[
        Path | None,
        typer.Option(
            "--asr",
            help="For --metric wer: a recogniser on this machine, a folder with a Whisper or CTC model.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[str, typer.Option("--language", help="What a Whisper model of many languages writes.")] = "en",
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            help="What was said, columns id, source, text; by default the manifest's column text.",
            show_default=False,
        ),
    ] = None,
    kaldi_export: Annotated[
        Path | None,
        typer.Option("--kaldi-export", help="Write the estimates here as Kaldi data at 8 kHz.", show_default=False),
    ] = None,
    seed: options.Seed = 0,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Score the first items only; 0 scores all.")] = 0,
    device: options.Device = "auto",
    workers: options.Workers = 0,
    threads: options.Threads = 0,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Score a model on a test set, or files that any program separated.

    Without MODEL and --data the latest run (under runs/, or $USEP_RUNS) is scored on its own test split, or
    else the model `default` on the small test set that comes with usep. Results: items.csv, one row per item
    and source; summary.csv; evaluate.json; the summary on the screen.

    \b
    Folders of files, at any depth, the same ids on both sides:
      s1/ID.wav  s2/ID.wav      one folder per source
      ID/s1.wav  ID/s2.wav      one folder per item
      ID_1.wav   ID_2.wav       one folder for all (also ID_s1.wav)
    Mixtures: ID.wav or ID/mix.wav. Unequal lengths are trimmed, further estimates ignored.

    `--metric momi` needs mixtures alone. A --protocol says what its paper's scores mean, and prints it.

    A listening test is one page, test.html, that works from disk and does not know what it plays; key.csv does.
    Listeners save their answers as CSV, which --listening-score counts.

    \b
    Examples:
      usep evaluate default --data data/two --metric si-snri --metric sdri -o scores
      usep evaluate --estimates separated --references data/two/wav/test --metric si-snr -o scores
      usep evaluate runs/new --versus runs/old/eval_test --stats
      usep evaluate runs/fuss --protocol saijo2023 --unprocessed --compare fuss_remixit
      usep evaluate default --report -o scores
      usep evaluate default --listening-test listen -n 30
      usep evaluate --listening-score listen/answers_anna.csv
    """
    asked = jobs.Asked(**locals())  # first of all: the arguments and nothing else
    from usepcli.cli import _evaluate_speech as speech
    from usepcli.cli import _evaluate_tables as tables

    wanted = jobs.check(asked)
    speech.check(asked)
    pages.check(asked, wanted)
    if listening_score:
        return pages.score_test(asked)
    job = jobs.find(asked, wanted)
    if listening_test is not None:
        return pages.make_test(job, asked)
    from usepcli.engine.scoring import results
    from usepcli.engine.scoring import versus as earlier

    folder = out or job.out
    results.refuse_existing(folder, overwrite)
    speech.refuse(job, asked)
    if wanted:
        tables.announce(wanted, asked)
    found = results.Results(job.facts, tables.conventions(asked, wanted, job.net is not None and job.net.ordered))
    others = [earlier.read(place) for place in versus]
    for other in others:
        earlier.refuse_unlike(found.facts, found.conventions, other)
    rows: jobs.Rows = []
    if asked.metrics or wanted:
        rows = tables.add_items(found, job, asked, wanted)
        tables.add_comparisons(found, job, asked, rows, others)
    if "momi" in metric:
        tables.add_moms(found, job, asked, folder)
    if "wer" in metric:
        speech.add_words(found, job, asked)
    if kaldi_export is not None:
        speech.export(found, job, asked, kaldi_export)
    record = results.save(folder, found)
    fault = tables.add_published(found, record, folder, asked) if compare else None
    tables.show(record, found, folder, asked)
    if report:
        pages.page(found, record, job, asked, rows, wanted)
    if fault:  # the scores are written and shown all the same
        raise fault
