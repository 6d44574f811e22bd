"""`usep evaluate`: score a model on a test set, or anybody's separated files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usepcli.cli import _earlier as earlier
from usepcli.cli import _options as options
from usepcli.errors import PartialFailure

if TYPE_CHECKING:
    from usepcli.engine.scoring.run import Evaluated


def complete_protocol(incomplete: str) -> list[str]:
    """Return the protocols whose names start with `incomplete`."""
    from usepcli.engine.scoring.protocols import PROTOCOLS

    return [name for name in sorted(PROTOCOLS) if name.startswith(incomplete)]


def complete_oracle(incomplete: str) -> list[str]:
    """Return the oracle masks whose names start with `incomplete`."""
    from usepcli.dsp.oracle import ALIASES, MASKS

    return [name for name in (*MASKS, *ALIASES) if name.startswith(incomplete)]


def complete_consistency(incomplete: str) -> list[str]:
    """Return the kinds of mixture consistency whose names start with `incomplete`."""
    from usepcli.engine.scoring.consistencies import BOTH, KINDS

    return [name for name in (*KINDS, BOTH) if name.startswith(incomplete)]


def complete_assign(incomplete: str) -> list[str]:
    """Return the assignments whose names start with `incomplete`."""
    from usepcli.engine.scoring.assigning import KINDS

    return [name for name in KINDS if name.startswith(incomplete)]


def complete_judge(incomplete: str) -> list[str]:
    """Return the judges whose names start with `incomplete`."""
    from usepcli.registry import JUDGES

    return [name for name in sorted(JUDGES) if name.startswith(incomplete)]


def complete_published(incomplete: str) -> list[str]:
    """Return the profiles with published numbers whose names start with `incomplete`."""
    from usepcli.engine.scoring.compare import profiles

    return [name for name in profiles() if name.startswith(incomplete)]


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL|RUN",
            help="Released model, .safetensors file or run folder; by default the latest run. a+b: the mean of both.",
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
        typer.Option(
            "--out",
            "-o",
            help="Folder of the results; by default RUN/eval_SPLIT, or evaluation, with the name of --data.",
        ),
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
        bool, typer.Option("--skip-missing", help="Missing estimates are no fault: rows without scores, exit 0.")
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
    oracle: Annotated[
        list[str],
        typer.Option(
            "--oracle",
            metavar="MASK",
            help="Score masks made from the references, too, as an upper bound, and the mixture: irm, ibm, iam, psm "
            "(ipsm), npsm, wfm; may be repeated.",
            autocompletion=complete_oracle,
        ),
    ] = [],  # noqa: B006 - Typer copies it
    stft: Annotated[
        str,
        typer.Option(
            "--stft",
            metavar="WINDOW/HOP",
            help="STFT in samples of --oracle, by default 512/128, and of --assign frame, 32 ms and its half.",
            show_default=False,
        ),
    ] = "",
    bounds: Annotated[
        bool,
        typer.Option("--bounds", help="Score no model: oracles, irm unless --oracle names others, and the mixture."),
    ] = False,
    consistency: Annotated[
        list[str],
        typer.Option(
            "--consistency",
            metavar="KIND",
            help="Score the same outputs under other mixture consistency than the model's own, too: none, uniform, "
            "magsq, learned, or both (with it and without); may be repeated.",
            autocompletion=complete_consistency,
        ),
    ] = [],  # noqa: B006 - Typer copies it
    assign: Annotated[
        str,
        typer.Option(
            "--assign",
            metavar="KIND",
            help="Assign outputs to sources as the model has them (default), anew for the utterance, or for every "
            "frame: what would be reached if no source were lost track of. The default stands beside.",
            autocompletion=complete_assign,
            show_default=False,
        ),
    ] = "",
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            help="Score a judge of sounds and words, no model: whether it tells the sources of --data apart by their "
            "queries.",
            autocompletion=complete_judge,
            show_default=False,
        ),
    ] = "",
    judge_path: Annotated[
        Path | None, typer.Option("--judge-path", metavar="DIR", help="Where --judge lies.", show_default=False)
    ] = None,
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
    only: Annotated[
        list[str],
        typer.Option(
            "--only",
            metavar="FILTER",
            help="Of published numbers those of systems that are causal, not-causal, closed or open (talkers known or "
            "not), 'parameters<=10' (millions), 'stride<=10' (samples); may be repeated.",
        ),
    ] = [],  # noqa: B006 - Typer copies it
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure",
            metavar="FILE",
            help="Draw SI-SNRi over parameters and arithmetic, published and ours, as .png or .svg.",
            show_default=False,
        ),
    ] = None,
    stats: Annotated[
        bool,
        typer.Option("--stats", help="How the scores spread: within mixtures over --versus, else within --by."),
    ] = False,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="Tell conditions apart by a column: n_src, k, source, query, label, origin, speakers, condition.",
        ),
    ] = "",
    report: Annotated[
        bool,
        typer.Option("--report", help="Write report.html: scores, how they spread, and items to listen to."),
    ] = False,
    report_by: Annotated[
        str,
        typer.Option("--report-by", metavar="SCORE", help="What chooses the items of --report; by default the first."),
    ] = "",
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
    channels: options.Heard = "each",
    seed: options.Seed = 0,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Score the first items only; 0 scores all.")] = 0,
    device: options.Device = "auto",
    workers: options.Workers = 0,
    threads: options.Threads = 0,
    shard: options.Shard = "",
    merge: options.Merge = False,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    listening_test: earlier.ListeningTest = None,
    trials: earlier.Trials = 30,
    against: earlier.Against = "",
    listening_kind: earlier.Kind = "",
    listening_score: earlier.ListeningScore = [],  # noqa: B006 - Typer copies it
    key: earlier.Key = None,
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

    An item that cannot be scored is a row with its reason, and stops no other (exit 4). The same command again shows
    what is there; results of other settings or data are refused without --overwrite (exit 73). Items are noted as they
    are scored (items.partial.jsonl): after a stop the same command goes on with the rest. With --shard several jobs
    score one set into one folder; the same command without it, or with --merge, then writes the tables.

    --bounds needs no model: what masks made from the references reach on a test set, and where the mixture itself
    stands. --oracle with --data does so, too, where no MODEL is named and no run is there, and with --references and
    no --estimates.

    `--metric holes` is the share, in per cent of the energy, of a reference's spectrogram within 40 dB of its loudest
    cell in which the estimate, brought to the reference's level, lies 20 dB or more below it; `holes-area` counts
    cells. Oracles have next to none; the mixture has where a source is very quiet.

    `--metric momi` needs mixtures alone. A --protocol says what its paper's scores mean, and prints it.

    --judge scores what objectives take words from: the shares of sources that fit their own phrase better than those
    of the others (the mixture would do so by chance), better than the mixture and the others do, and that find it first
    or among five of all phrases of the split, in per cent. What a judge cannot tell apart, no training by it learns.

    For people's ears, see `usep listen`.

    \b
    Examples:
      usep evaluate default --data data/two --metric si-snri --metric sdri -o scores
      usep evaluate --estimates separated --references data/two/wav/test --metric si-snr -o scores
      usep evaluate runs/new --versus runs/old/eval_test --stats
      usep evaluate runs/fuss --protocol saijo2023 --unprocessed --compare fuss_remixit
      usep evaluate default --oracle irm --oracle psm --stft 256/64 --metric si-snri -o scores
      usep evaluate --bounds --data data/scenes --protocol advpit2023
      usep evaluate runs/universal --protocol advpit2023 --consistency both
      usep evaluate default --report -o scores
      usep evaluate --judge clap --judge-path clap_folder --data data/sounds -o judged
    """
    asked = dict(locals())
    if listening_test is not None or listening_score or against or listening_kind or key is not None:
        return earlier.listen(asked)
    from usepcli.engine.scoring import run

    try:
        run.evaluate(
            **options.but(asked, "as_json", *earlier.NAMES),
            say=options.hushed(quiet),
            show=lambda done: _show(done, as_json, options.hushed(quiet)),
        )
    except PartialFailure:
        options.tell_shard(shard, quiet)
        raise
    options.tell_shard(shard, quiet)


def _show(done: Evaluated, as_json: bool, say: Callable[[str], None]) -> None:
    """Print the tables on stdout, or evaluate.json with --json, and notes on stderr."""
    from usepcli.engine import tables
    from usepcli.engine.scoring import conditions, fuss_scores, results, versus

    record, found, folder = done.record, done.found, done.out
    if done.share:
        if as_json:
            options.report({**record, "out": str(folder)}, True)
        return
    for reason, count in record["reasons"].items():
        say(f"{count} of {record['rows']} rows: {reason}")
    if record.get("skipped"):
        say(f"{record['skipped']} items: no sounding reference, no part in any score")
    if record.get("capped"):
        say(f"{record['capped']} scores above {fuss_scores.CAPPED_DB:g} dB: the protocol's eps ends them at 80")
    if as_json:
        options.report({**record, "out": str(folder)}, True)
    else:
        typer.echo(tables.render(found.summary, found.columns()))
        shown: dict[str, Sequence[str]] = {
            results.CONFUSION: (), results.STATS: conditions.COLUMNS, results.VERSUS: versus.COLUMNS,
            results.COMPARED: (),
        }  # fmt: skip
        for name, columns in shown.items():
            if name in found.tables and found.tables[name][0]:
                typer.echo("\n" + tables.render(found.tables[name][0], columns))
    moms = record.get("momi", {})
    if "pearson" in moms:
        say(f"momi against msi, {moms['n']} sums: {_coefficient(moms, 'pearson')}, {_coefficient(moms, 'spearman')}")
    if results.ITEMS in found.tables:
        say(f"{record['items']} items, {record['rows']} sources; written: {folder}")
    else:
        say(f"written: {folder}")


def _coefficient(facts: dict[str, Any], name: str) -> str:
    return f"{name.capitalize()} {'-' if facts[name] is None else format(facts[name], '.2f')}"
