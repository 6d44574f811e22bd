"""`usep prepare-data`: recordings on disk to manifests and mixtures, and the audit of either."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from usepcli import registry
from usepcli.cli import _options as options
from usepcli.cli._corpora import MADE, NOT_OPTIONS, SCENES, WORDED, of, refuse
from usepcli.errors import BadInput, ConfigError, PartialFailure, UsageError

Pair = tuple[float, float]
Counts = tuple[int, int]
Triple = tuple[float, float, float]


def prepare_data(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of recordings, CSV list, or tar files ('data/{000..099}.tar'); with --check a prepared folder."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to make, or where --check puts check.csv.", show_default=False),
    ] = None,
    corpus: Annotated[
        str,
        typer.Option(
            "--corpus",
            help=f"Kind of source: {', '.join(registry.CORPORA)}.",
            autocompletion=options.complete_corpus,
        ),
    ] = "folder",
    check: Annotated[
        bool, typer.Option("--check", help="Audit a prepared folder, a manifest or any tree; make nothing.")
    ] = False,
    n_src: Annotated[
        int | None, of("speakers, wsj-mix, wsj0-mix, librimix", "--n-src", "Talkers in a mixture; 2 by default.")
    ] = None,
    rate: Annotated[
        int | None,
        of(
            f"{MADE}, wsj0-mix, wham, whamr, librimix, yfcc, --check",
            "--rate",
            "Sample rate in Hz; 8000 by default, 16000 of fuss-mix and yfcc, 11025 of labelled, music, vggsound.",
        ),
    ] = None,
    length: Annotated[
        str | None,
        of(
            "speakers, wsj0-mix, wham, whamr, librimix",
            "--length",
            "Mixtures last --seconds (seconds, the default of speakers), as long as the shortest (min) or "
            "longest (max) talker.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        of(
            f"speakers, {SCENES}, yfcc",
            "--seconds",
            "Length of a mixture; 4 by default, 10 of fuss-mix, yfcc, vggsound, 6 of labelled, music.",
        ),
    ] = None,
    min_s: Annotated[
        float | None,
        of(
            MADE,
            "--min-s",
            "Leave out shorter recordings; 0.5 by default, 0.2 of events and fuss-mix.",
        ),
    ] = None,
    max_s: Annotated[
        float | None, of("speakers", "--max-s", "Longest mixture of --length min or max; 0 = no limit.")
    ] = None,
    level_db: Annotated[
        float | None, of("speakers", "--level-db", "Talkers' levels differ by up to +- this; 5 by default.")
    ] = None,
    overlap: Annotated[
        Pair | None,
        of(
            "speakers",
            "--overlap",
            "Range of the overlap: 1 1 (default) all the time, 0 0 one after the other.",
            metavar="LOW HIGH",
        ),
    ] = None,
    join: Annotated[
        bool | None,
        of("speakers", "--join", "Join short recordings of a talker, with pauses, up to --seconds."),
    ] = None,
    pause_s: Annotated[
        Pair | None,
        of("speakers", "--pause", "Range of these pauses in seconds; 0.1 0.6 by default.", metavar="LOW HIGH"),
    ] = None,
    noise: Annotated[
        Path | None,
        of("speakers, wsj-mix", "--noise", "Folder of noise recordings to add; its splits share no recording."),
    ] = None,
    noise_snr_db: Annotated[
        Pair | None,
        of(
            "speakers, wsj-mix",
            "--noise-snr",
            "Range of speech above noise in dB; 5 20 by default, 10 20 of wsj-mix.",
            metavar="LOW HIGH",
        ),
    ] = None,
    reverb: Annotated[
        str | None,
        of(
            "fuss-mix",
            "--reverb",
            "Rooms: none (default), simulated, or measured (--rirs); the set without them is listed in dry.csv.",
        ),
    ] = None,
    rirs: Annotated[
        Path | None,
        of(
            "fuss-mix",
            "--rirs",
            "Folder of room responses, first channels; a scene keeps to one room, a room to one split.",
        ),
    ] = None,
    rt60_s: Annotated[
        Pair | None,
        of(
            "wsj-mix, fuss-mix",
            "--rt60",
            "Range of nominal reverberation times (Sabine) in seconds; 0.2 1.0 by default, 0.2 0.5 of fuss-mix. For "
            "0.2, 0.5 and 1.0 the measured T30 is 0.18, 0.63 and 1.4.",
            metavar="LOW HIGH",
        ),
    ] = None,
    rooms: Annotated[
        int | None,
        of(
            "wsj-mix, fuss-mix",
            "--rooms",
            "Simulate N rooms for each split and share them; 0 (default) one for every mixture.",
        ),
    ] = None,
    anechoic: Annotated[
        bool | None,
        of("wsj-mix", "--anechoic", "Write the talkers without the room too, and list them in anechoic.csv."),
    ] = None,
    sources: Annotated[
        Counts | None,
        of(
            SCENES,
            "--sources",
            "Range of sources in a scene; 1 4 by default, 2 2 of labelled, music, vggsound.",
            metavar="LOW HIGH",
        ),
    ] = None,
    background: Annotated[
        float | None,
        of(SCENES, "--background", "Share of scenes in which one source is a background; 1 by default."),
    ] = None,
    background_s: Annotated[
        float | None,
        of(
            SCENES,
            "--background-s",
            "Without a column role: longer recordings are backgrounds; 10 by default.",
        ),
    ] = None,
    backgrounds: Annotated[
        Path | None,
        of("fuss-mix", "--backgrounds", "Folder of the backgrounds; all recordings of SOURCE are foregrounds then."),
    ] = None,
    background_lufs: Annotated[
        float | None,
        of("fuss-mix", "--background-lufs", "Loudness of the background; -45 by default, -55 in FUSS."),
    ] = None,
    event_snr_db: Annotated[
        Pair | None,
        of(
            SCENES,
            "--event-snr",
            "Range of foreground above background in dB, of fuss-mix in LU; -5 25 by default.",
            metavar="LOW HIGH",
        ),
    ] = None,
    stems: Annotated[
        bool | None,
        of(WORDED, "--stems/--no-stems", "Keep the sources; --no-stems leaves the sums and their words."),
    ] = None,
    supervised: Annotated[
        float | None,
        of(
            WORDED,
            "--supervised",
            "Share of the training recordings that are heard in mixtures with sources, for text_semi; of all others "
            "the sums alone are kept. Without it all have sources.",
            metavar="SHARE",
        ),
    ] = None,
    test_list: Annotated[
        str | None,
        of(f"{WORDED}, mom", "--test-list", "List of the test mixtures, the parts of one in each row.", metavar="LIST"),
    ] = None,
    seeds: Annotated[
        str | None,
        of("mom", "--seeds", "Seeds, as 0,1,2, each of which pairs every mixture once; 0 by default.", metavar="LIST"),
    ] = None,
    captions: Annotated[
        str | None, of("audiocaps", "--captions", "Of several captions of a clip: each (default) or first.")
    ] = None,
    spacy: Annotated[
        Path | None,
        of("audiocaps", "--spacy", "Folder of a spaCy model that finds a caption's phrases instead of rules."),
    ] = None,
    train: Annotated[int | None, of(MADE, "--train", "Training mixtures; 2000 by default.")] = None,
    valid: Annotated[int | None, of(MADE, "--valid", "Validation mixtures; 200 by default.")] = None,
    test: Annotated[int | None, of(MADE, "--test", "Test mixtures; 200 by default.")] = None,
    closed: Annotated[
        int | None,
        of("speakers", "--closed", "Test mixtures of training talkers, in recordings held out; none by default."),
    ] = None,
    split_ratios: Annotated[
        Triple | None,
        of(
            f"{MADE}, folder, csv, tar",
            "--split-ratios",
            "Shares of train, valid, test where no split is named; 0.8 0.1 0.1.",
            metavar="TRAIN VALID TEST",
        ),
    ] = None,
    csv: Annotated[
        str | None,
        of(
            f"{MADE}, folder, csv, audiocaps",
            "--csv",
            "List in SOURCE; manifest.csv or the corpus's own by default, 'none' for none.",
        ),
    ] = None,
    root: Annotated[
        Path | None, of("csv, yfcc", "--root", "Where the recordings of the list lie; its own folder by default.")
    ] = None,
    speaker_column: Annotated[
        str | None,
        of("speakers, wsj-mix", "--speaker-column", "Column that names the talker; speaker or label by default."),
    ] = None,
    split_column: Annotated[
        str | None,
        of(
            f"{MADE}, folder, csv",
            "--split-column",
            "Column that names the split; 'none' splits by seed.",
        ),
    ] = None,
    speaker_depth: Annotated[
        int | None,
        of(
            "speakers, wsj-mix",
            "--speaker-depth",
            "Without a list: the folder that names the talker; 1 top, -1 innermost.",
        ),
    ] = None,
    mix: Annotated[
        str | None,
        of("wsj0-mix, librimix", "--mix", "Mixture folder: mix, mix_clean, mix_both, mix_single."),
    ] = None,
    task: Annotated[
        str | None, of("wham, whamr", "--task", "sep_noisy (default), sep_clean, enh_single or enh_both.")
    ] = None,
    noise_as: Annotated[str | None, of("wham, whamr", "--noise-as", "In the mixture (default), or a source.")] = None,
    subset: Annotated[str | None, of("librimix", "--subset", "train-100 (default), train-360 or both.")] = None,
    reference: Annotated[
        str | None, of("sms-wsj, whamr", "--reference", "Talkers: reverberant, early, anechoic (of whamr usual).")
    ] = None,
    channel: Annotated[int | None, of("sms-wsj", "--channel", "Microphone, from 0, the default.", min=0)] = None,
    variant: Annotated[
        str | None, of("fuss, whamr", "--variant", "fuss: dry or reverb; whamr: reverb or anechoic.")
    ] = None,
    mix_from: Annotated[
        str | None,
        of("fuss", "--mix-from", "Mixtures: sum (default) of the sources, as papers have it, or their file."),
    ] = None,
    licence: Annotated[
        str | None, of("lists of mixtures", "--licence", "Licence to note where the source names none.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, help="Use only N recordings, evenly picked: a try-out.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None,
        of(
            f"{MADE}, folder, csv, tar",
            "--seed",
            "Seed of everything drawn at random; 0 by default.",
            min=0,
        ),
    ] = None,
    shards: Annotated[
        str,
        typer.Option(
            "--shards",
            metavar="SIZE",
            help="Write the set as tar files of about SIZE each (1GB, 500MB), as WebDataset does.",
            show_default=False,
        ),
    ] = "",
    workers: options.Workers = 0,
    shard: options.Shard = "",
    merge: options.Merge = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Make a data set for training: manifest.csv, prepare.json and, from single talkers, mixtures.

    `folder` lists recordings of mixtures and copies nothing. `speakers` writes mixtures with their sources
    and a pool of utterances; no talker is in two splits. `wsj-mix` puts them into simulated
    rooms (needs usepcli[sim]); `events` writes scenes of single sounds, and `fuss-mix` scenes with the
    lengths and levels of FUSS; `tar` lists samples of WebDataset, here or at addresses. One seed gives the
    same bits on any number of workers, and the same command goes on after an interruption. With --shard
    several jobs make one set, or check one; the same command without it, or with --merge, then writes the
    tables. Exit 4: some recordings could not be used, see bad_files.csv.

    Examples:

      usep prepare-data recordings -o data/mine

      usep prepare-data data/mine --check

      usep prepare-data speech -o data/two --corpus speakers --train 2000
    """
    asked = dict(locals())
    how: dict[str, Any]
    if check:
        how = {"rate": rate or 0, "limit": limit or 0, "workers": workers, "overwrite": overwrite, "quiet": quiet}
        _check(source, out, how | {"shard": shard, "merge": merge}, as_json)
        return
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.but(asked, *NOT_OPTIONS).items()
        if value is not None
    }
    refuse(ctx, given)
    if out is None:
        raise UsageError("--out is missing: name the folder to make, e.g. -o data/mine")
    from usepcli.engine.preparing.prepare import prepare
    from usepcli.engine.separation.ending import Ending

    how = {"workers": workers, "overwrite": overwrite, "dry_run": dry_run, "quiet": quiet, "shards": shards}
    how |= {"shard": shard, "merge": merge}
    try:
        with Ending():
            done = prepare(source, out, corpus, given, **how)
    except ConfigError as err:  # here the values came from the command line, not from a profile
        raise UsageError(str(err)) from err
    if as_json:
        options.report(done.as_dict(), True)
    else:
        options.listing(done.table())
        for line in done.notes():
            options.hushed(quiet)(line)
    options.tell_shard(shard, quiet or dry_run)
    listed = "" if dry_run or shard else f"; all of them are in {out / 'bad_files.csv'}"
    if ours := [one for one in done.bad if one.ours]:
        options.hushed(quiet)(f"{len(ours)} outputs of usep separate were passed over, e.g. {ours[0].path}{listed}")
    if bad := [one for one in done.bad if not one.ours]:
        raise PartialFailure(
            f"{len(bad)} recordings could not be used and were left out, e.g. {bad[0].path}: {bad[0].reason}{listed}"
        )


def _check(source: Path, out: Path | None, how: dict[str, Any], as_json: bool) -> None:
    from usepcli.engine.preparing.check import check
    from usepcli.engine.separation.ending import Ending

    quiet = how["quiet"]
    with Ending():
        report = check(source, out, **how, say=options.hushed(quiet))
    if as_json:
        options.report(report.as_dict(), True)
    else:
        options.listing(report.table())
        for line in report.notes():
            options.hushed(quiet)(line)
    options.tell_shard(how["shard"], quiet)
    if report.errors and not report.share:  # a share tells, and the whole is judged when it is taken together
        raise BadInput(
            f"{source}: {report.errors} faults would spoil a training"
            + (
                f"; all of them are in {report.path}"
                if report.path
                else "; pass -o DIR to have them all in DIR/check.csv"
            )
        )
