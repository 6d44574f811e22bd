"""Other gains for the sources of one recording: what `usep remix` does without --shuffle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli import device as devices
from usepcli.audio import io, metadata
from usepcli.audio.tagging import fit
from usepcli.engine.mixing.automation import Curve, read_automation
from usepcli.engine.mixing.desk import desk
from usepcli.engine.mixing.inputs import Stems, check_stems, find_stems
from usepcli.engine.mixing.levels import Goal
from usepcli.engine.mixing.remix import Remix, check_output, decibels, remix
from usepcli.engine.separation.ending import Ending
from usepcli.engine.separation.notes import purpose
from usepcli.errors import UsageError
from usepcli.files import show, tried
from usepcli.separator import engines, words
from usepcli.separator.how import RESIDUAL, names_of
from usepcli.weights import ensembles

if TYPE_CHECKING:
    from usepcli.separator.separator import Separator, Watch


@dataclass
class Mixed:
    """What was written, or of a dry run what would be: the output, its sample format, the gains."""

    record: Remix | None = None
    planned: dict[str, Any] = field(default_factory=dict)


def mix(
    inputs: Sequence[Path],
    out: Path,
    *,
    gain: Sequence[str] = (),
    mute: Sequence[str] = (),
    pan: Sequence[str] = (),
    automation: Path | None = None,
    file: str = "",
    lufs: float | None = None,
    true_peak: float | None = None,
    peak: str = "gain",
    model: str | None = None,
    always: bool = False,
    subtype: str = "",
    device: str = "auto",
    threads: int = 0,
    engine: str = engines.TORCH,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Mixed:
    """Mix stems, or the sources of one recording, with other gains; the options are those of `usep remix`.

    The model is loaded when all that can be wrong without it has been looked at.
    """
    if not inputs:
        raise UsageError(
            "no input: name STEMs, a folder or an outputs.csv to add up, a FILE to separate, or --shuffle MANIFEST"
        )
    tell = (lambda line: None) if quiet else say
    devices.check(device)
    goal = Goal(lufs, true_peak, peak)
    stems = find_stems(inputs, file)
    curves = read_automation(automation) if automation else {}
    info, subtype = check_stems(stems.paths), subtype.upper()
    form = check_output(out, info, stems.paths, subtype, overwrite)
    ref = _model(model, inputs, stems, curves, {*(text.rpartition("=")[0] for text in (*gain, *pan)), *mute}, tell)
    if ref is None and engine != engines.TORCH:
        raise UsageError(f"--engine {engine}: computes a model, and these sources are separated already; leave it out")
    if ref is not None:
        engines.check(engine, ref, device)
    loaded: Separator | None = None
    names = stems.names
    if ref is not None:
        outputs = ensembles.find(ref).card.sources
        if not outputs:  # the card does not say, or the words do
            loaded = _loaded(ref, device, threads, engine, tell)
            if loaded.by_query:
                loaded = loaded.ask(_queries(ref, gain, mute, pan, curves), always)
            outputs = loaded.n_src if loaded.queries else loaded.sources
        names = (*loaded.queries, RESIDUAL) if loaded and loaded.queries else names_of(outputs)
    if always and not (loaded and loaded.queries):
        raise UsageError("--always: keeps what a query is judged not to name; it needs a --model by query")
    where = f"--automation {show(str(automation or ''))}"
    mixer = desk(names, gain, mute, pan, curves, where)
    mixer.channels(info.channels)
    for path in stems.paths:
        if missing := io.missing_s(path):
            say(f"{show(str(path))}: {missing:g} s shorter than its header or its size says; mixed what is there")
    if stems.ledger:
        tell(f"{stems.ledger}: lists these files with the gain that they were written with; name it to undo the gain")
    if stems.lacking:
        tell(f"{show(inputs[0])}: {stems.lacking}; what that share separates is not among these files")
    if stems.left_out:
        tell(f"{show(inputs[0])}: separate left these out, near-silent or with little of their own: {stems.left_out}")
    if dry_run:
        return Mixed(planned={"output": str(out), "subtype": form, "gains_db": decibels(names, mixer.gains)})
    tried(out.parent)
    tags = _tags(stems, out, info.rate, tell, say)
    separator = loaded or (None if ref is None else _loaded(ref, device, threads, engine, tell))
    if ref is not None:
        for line in ensembles.purpose(ref, purpose):
            tell(line)
    with Ending() as ending:
        record = remix(
            stems, out, mixer, separator=separator, subtype=subtype, goal=goal, overwrite=overwrite,
            watch=_watch(quiet, ending), check=ending.check, tags=tags,
        )  # fmt: skip
    for name in record.absent:
        say(f"{record.output}: '{name}' is judged absent and stays as it is; --always mixes what was found")
    _note(record, goal, tell)
    return Mixed(record)


def _queries(
    ref: str, gain: Sequence[str], mute: Sequence[str], pan: Sequence[str], curves: Mapping[str, Curve]
) -> tuple[str, ...]:
    """Return what a model by query is asked for: the sounds that the desk names, but for the residual."""
    named = [*(text.rpartition("=")[0] for text in (*gain, *pan)), *mute, *curves]
    asked = [name for name in dict.fromkeys(named) if name != RESIDUAL]
    if number := next((name for name in asked if name.isdecimal()), ""):
        raise UsageError(
            f"--model {ref}: no source has number {number}; name the sound, as in --gain 'dog barking'=-12"
        )
    if not named:
        raise UsageError(
            f"--model {ref}: separates what it is asked for in words and was asked for nothing; name the sounds, as in "
            "--gain 'dog barking'=-12"
        )
    if not asked:
        raise UsageError(f"--model {ref}: residual is what the named sounds leave; name one, as in --mute wind")
    return words.checked(asked, "--gain, --mute, --pan")


def _tags(stems: Stems, out: Path, rate: int, tell: Callable[[str], None], say: Callable[[str], None]) -> metadata.Tags:
    """Return what the result is to say besides its sound: what the first stem says that says something."""
    for path in stems.paths:
        if tags := metadata.of(path):
            if len(stems.paths) > 1:
                tell(f"{show(str(path))}: its tags go into the result")
            if lost := fit(tags, out.suffix, rate).lost:
                say(f"{show(str(path))}: {out.suffix} files cannot hold what it says of {', '.join(lost)}; left out")
            return tags
    return metadata.Tags()


def _model(
    model: str | None,
    inputs: Sequence[Path],
    stems: Stems,
    curves: Mapping[str, Curve],
    named: set[str],
    tell: Callable[[str], None],
) -> str | None:
    """Return the model that makes the sources: the one asked for, or a usual one where one file's sources are named.

    By number they are those of `default`; by words, those that `words_small` is asked for.
    """
    single = len(inputs) == 1 and tuple(inputs) == stems.paths
    if model is not None and not single:
        raise UsageError(
            f"--model takes one file to separate, found {len(stems.paths)} stems; leave --model out to sum stems"
        )
    # A file named by its own name is a stem.
    if model is not None or not single or not {*named, *curves} - {*stems.names, ""}:
        return model
    numbered = all(name.isdecimal() for name in {*named, *curves} - {*stems.names, "", RESIDUAL})
    usual = words.USUAL if numbered else words.USUAL_ASKED
    tell(f"{show(inputs[0])}: its sources are named, so the model '{usual}' separates it first (see --model)")
    return usual


def _loaded(ref: str, device: str, threads: int, engine: str, tell: Callable[[str], None]) -> Separator:
    from usepcli.separator.separator import Separator

    return Separator.load(ref, device, threads, engine=engine, say=tell)


def _watch(quiet: bool, ending: Ending) -> Watch:
    from usepcli.report.progress import progress

    def watch(blocks: Iterable[Any], total: int, name: str) -> Iterator[Any]:
        for block in progress(blocks, total, desc=name, unit="block", quiet=quiet):
            ending.check()
            yield block

    return watch


def _note(record: Remix, goal: Goal, say: Callable[[str], None]) -> None:
    """Say where the result is not what was asked for, or was turned down or limited."""
    top = goal.ceiling_db
    kept = "nothing clips" if top is None else f"the true peak stays at {top:g} dBTP"
    if record.limited_db:
        say(
            f"{record.output}: limited by up to {record.limited_db:.1f} dB, in {100 * record.limited_share:.1f} % of "
            f"the time, so that {kept}"
        )
    if goal.lufs is None:
        if record.gain_db:
            say(f"{record.output}: turned down by {-record.gain_db:.2f} dB so that {kept}")
    elif not math.isfinite(record.lufs_after):
        why = "shorter than 0.4 s" if math.isnan(record.lufs_after) else "silent"
        say(f"{record.output}: {why}, so its loudness was left as it is")
    elif abs(record.lufs_after - goal.lufs) > 0.2:
        why = f"as loud as it gets where {kept}; --peak limit goes further"
        if record.limited_db:
            why = "more would be limited too hard"
        say(f"{record.output}: {record.lufs_after:.1f} LUFS instead of {goal.lufs:g}: {why}")
    if top is not None and record.true_peak_after > top + 0.1:
        say(f"{record.output}: the true peak is {record.true_peak_after:.2f} dBTP: this format moves the peaks")
