"""Separating while the sound comes in: from a pipe or a microphone to files that grow, and to pipes.

What would take the whole recording is not done: levels stay as they are (gain 1), channels are separated each by
itself, and what the sources lack is left out or is one more file. The numbers are those of the model on the whole.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usepcli import device as devices
from usepcli.audio import incoming, pcm
from usepcli.audio.incoming import MICROPHONE, Incoming
from usepcli.engine.separation import batch, jobs, live_models
from usepcli.engine.separation.activity import ACTIVE_DB, Meter
from usepcli.engine.separation.ending import Noting
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.ledger import Ledger
from usepcli.engine.separation.live_outputs import Outputs, Wanted, is_pipe, refuse_twice, wanted
from usepcli.engine.separation.live_pace import LivePace, Meters, told
from usepcli.engine.separation.maker import Maker
from usepcli.engine.separation.notes import stays
from usepcli.engine.separation.outputs import CLIPS
from usepcli.engine.separation.record import Identity, Record, Track
from usepcli.engine.separation.run import Done
from usepcli.engine.separation.separate_files import Wish
from usepcli.engine.separation.source import Source
from usepcli.engine.separation.stored import Stored
from usepcli.errors import BadInput, IOFault, PartialFailure, UsageError, UsepError, choices
from usepcli.files import sha256, show
from usepcli.separator.how import How, names_of
from usepcli.separator.words import USUAL_LIVE
from usepcli.stops import name_of
from usepcli.weights import cards

if TYPE_CHECKING:
    from usepcli.separator.live import Live
    from usepcli.separator.separator import Separator

BLOCK_S = 0.010
_MOST_BLOCK_MS = 1000.0
_METERED_S = 0.5  # of sources that are measured at once
_RELEASED_S = 120.0
READER_LEFT = 141  # what a shell says of a process that SIGPIPE ended


def separate_live(
    inputs: Sequence[str | Path],
    out: Path,
    *,
    model: str | Separator | None = None,
    channels: str = "linked",
    rest: str = "",
    residual: bool = False,
    keep: str = "",
    name: str = "{stem}_{i}",
    form: str = "wav",
    subtype: str = "",
    clip: str = "gain",
    device: str = "auto",
    threads: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    pipes: Sequence[str] = (),
    samples: str = "",
    block_ms: float = 0.0,
    done: Callable[[Record], None] = lambda record: None,
    say: Callable[[str], None] = lambda line: None,
) -> Done:
    """Separate one stream while it comes in; the options are those of `usep separate --live`.

    `out` is a folder for files, or a pipe (- for standard output) that gets the sources as channels of raw samples. A
    signal ends the stream as its end would, and is raised then: KeyboardInterrupt or Ended. UsageError for a model that
    is not live, IOFault where input, disk or device fail: what was heard until then is in the files.
    """
    text = _one(inputs)
    like = pcm.asked(samples) if samples else None
    how = _how(channels, rest, residual)
    _check_words(form, subtype, clip, block_ms)
    jobs.check_template(name)
    incoming.check(text)
    maker = Maker.of(model or USUAL_LIVE, device, threads or _few(), 0.0)
    live_models.refuse(maker)
    names = names_of(maker.sources, how)
    chosen, piped = jobs.choose(names, keep), wanted(pipes, names)
    if is_pipe(os.fspath(out)):
        job = Job(Path(text), (), subtype, chosen, name=text)
        piped.append(Wanted(os.fspath(out), tuple(map(names.index, chosen))))
    else:
        job = _laid(text, out, chosen, name, subtype)
        jobs.refuse_outputs(job, overwrite, {jobs.identity(text)})
    refuse_twice(piped)
    if dry_run:
        listed = [*map(str, job.outputs), *(pipe.name for pipe in piped)]
        return Done(planned=[{"file": job.file, "outputs": listed, "done": False}])
    facts = batch.settings(maker.ref, 0.0, Wish(how, clip=clip), chosen, name, form, subtype) | {"live": True}
    live_models.warm(maker.separator)  # before sound is waiting, and while a signal ends all at once
    run = _Stream(maker, job, how, names, piped, clip, overwrite, quiet, batch.marked(Wish(), facts), say)
    with Noting() as stop:
        record = run.go(out, like, block_ms, stop)
    if record:
        done(record)
    run.end(stop, record is not None)
    return Done(records=[record] if record else [])


def _one(inputs: Sequence[str | Path]) -> str:
    texts = [os.fspath(text) for text in inputs]
    if len(texts) != 1 or not texts[0]:
        raise UsageError(f"--live: hears one stream, found {len(texts)}; name a pipe, a sound file, - or {MICROPHONE}")
    return texts[0]


def _how(channels: str, rest: str, residual: bool) -> How:
    usual = {"linked": "each"}
    if rest == "share":
        raise UsageError("--rest share: weighs windows of seconds, which --live has not; leave it out, or --residual")
    if rest not in ("", "leave"):
        raise UsageError(f"--rest: {choices('treatment of the rest', rest, ('share', 'leave'))}")
    if residual and rest:
        raise UsageError("--residual: writes the rest that --rest leave leaves out; give one of them")
    return How(usual.get(channels, channels), "source" if residual else "leave")


def _check_words(form: str, subtype: str, clip: str, block_ms: float) -> None:
    if form.lower().lstrip(".") != "wav":
        raise UsageError(f"--format {form}: live files are wav, whole at every moment; leave it out")
    if subtype and subtype.upper() not in pcm.WRITTEN:
        raise UsageError(f"--subtype: {choices('format of samples', subtype, pcm.WRITTEN)}")
    if clip not in CLIPS:
        raise UsageError(choices("treatment of clipping", clip, CLIPS))
    if not 0 <= block_ms <= _MOST_BLOCK_MS:
        raise UsageError(f"--block-ms: found {block_ms:g}; expected up to {_MOST_BLOCK_MS:g}, 0: about 10")


def _few() -> int:
    """Return the threads of a stream: blocks of milliseconds are too small to be shared out; 0 where it is decided."""
    return 0 if os.environ.get("OMP_NUM_THREADS") or os.environ.get("USEP_THREADS") else 1


def _laid(text: str, out: Path, chosen: Sequence[str], name: str, subtype: str) -> Job:
    if text == "-":
        source = Source("stdin", "stdin", "-")
    elif text.startswith(MICROPHONE):
        source = Source("mic", "mic", text)
    else:
        source = Source(text, Path(text).stem)
    return jobs.lay_out_some([source], out, chosen, lambda _: True, name=name, subtype=subtype.upper())[0][0]


@dataclass
class _Stream:
    """One stream: what it is separated by, where it goes, and what became of it."""

    maker: Maker
    job: Job
    how: How
    names: Sequence[str]
    pipes: Sequence[Wanted]
    clip: str
    overwrite: bool
    quiet: bool
    wish: Wish
    say: Callable[[str], None]
    fault: UsepError | None = None
    left: Sequence[str] = ()  # pipes whose readers have left
    alone: bool = False  # nobody else was there

    def go(self, out: Path, like: pcm.Pcm | None, block_ms: float, stop: Noting) -> Record | None:
        """Hear it to its end, or until a stop is asked for; return what became of it, None where nothing was heard."""
        separator = self.maker.separator
        stride_s = live_models.model_of(separator).live_stride / separator.rate

        def frames(rate: int) -> int:
            block_s = block_ms / 1000 or math.ceil(BLOCK_S / stride_s - 1e-9) * stride_s
            return max(1, round(block_s * rate))

        with suppress(incoming.Stopped):
            source = incoming.opened(self.job.file, like, separator.rate, frames, stop)
            try:
                with _held(out, bool(self.job.outputs)) as ledger:
                    return self._run(source, separator, frames(source.rate), ledger, stop)
            finally:
                source.close()
        return None

    def _run(
        self, source: Incoming, separator: Separator, frames: int, ledger: Ledger | None, stop: Noting
    ) -> Record | None:
        live = separator.live(source.rate, self.how)
        pace = LivePace(source.rate, live.latency_s, frames / source.rate)
        channels = 1 if self.how.one_channel else source.channels
        subtype = self.job.subtype or "FLOAT"
        code = pcm.WRITTEN[subtype] if self.job.subtype else source.code
        kept = [(self.names.index(name), path) for name, path in zip(self.job.names, self.job.outputs, strict=False)]
        self._tell(source, separator, live, code, channels)
        outputs = Outputs(kept, self.pipes, subtype, code, self.clip, self.overwrite, stop)
        meter = Meter(source.rate, len(self.names), channels, cards.silent_db(separator.card) or ACTIVE_DB)
        stored = Stored(source.rate, len(self.names), channels) if kept else None
        heard = _Heard(meter, stored, pcm.WRITTEN[subtype], Meters(self.names, pace, self.quiet))
        try:
            try:
                self._hear(source, live, pace, outputs, heard, frames, stop)
            finally:
                heard.end()
                outputs.close()
        except UsepError as fault:
            if not pace.heard:
                raise
            self.fault = fault
        if not pace.heard and stop():
            return None
        if not pace.heard:
            raise BadInput(f"{source.name}: ended before the first sample; the program before the pipe may have failed")
        record = self._record(source, pace, outputs, heard, channels, subtype)
        self._told(source, record, outputs, stop)
        if ledger:
            try:
                record = ledger.add(record)
                stays(record, self.say)
            except IOFault as fault:  # a full disk is told once
                self.fault = self.fault or fault
        return record

    def _hear(
        self, source: Incoming, live: Live, pace: LivePace, outputs: Outputs, heard: _Heard, frames: int, stop: Noting
    ) -> None:
        released = 0.0
        for block in self._blocks(source, frames, stop):
            begin = time.perf_counter()
            found = _three(live.push(block))
            outputs.keep(found, source.rate)
            pace.add(block.shape[1], time.perf_counter() - begin)
            outputs.send(found)
            heard.add(found)
            if outputs.alone:
                break
            if pace.heard_s - released > _RELEASED_S:
                released = pace.heard_s
                devices.release_heap()
        if pace.heard:
            last = _three(live.finish())
            outputs.keep(last, source.rate)
            outputs.send(last)
            heard.add(last)
        elif self.fault:
            raise self.fault

    def _blocks(self, source: Incoming, frames: int, stop: Noting) -> Iterator[np.ndarray]:
        """Yield what comes; where the input fails, what came until then is brought to its end like any other."""
        heard = 0
        try:
            for block in source.blocks(frames, stop):
                sound = np.isfinite(block).all(0)
                good = block.shape[1] if sound.all() else int(sound.argmin())
                heard += good
                if good:
                    yield block[:, :good]
                if good < block.shape[1]:
                    at = f"after {heard / source.rate:.3f} s"
                    self.fault = BadInput(f"{source.name}: {at}: a sample is NaN or infinite; repair what comes before")
                    return
        except UsepError as fault:
            self.fault = fault

    def _tell(self, source: Incoming, separator: Separator, live: Live, code: str, channels: int) -> None:
        """Say before the first block what is heard how, and what goes into the pipes."""
        if self.quiet:
            return
        if channels > 1:
            self.say(
                f"{source.name}: {channels} channels, each separated by itself, so that the order of the sources may "
                "differ between them; --channels mix makes one of them"
            )
        if source.rate > separator.rate:
            rest = "is in the residual" if self.how.rest == "source" else "is left out of the sources"
            self.say(
                f"{source.name}: {source.rate} Hz, but the model works at {separator.rate} Hz: what lies above "
                f"{separator.rate / 2000:g} kHz {rest}"
            )
        for pipe in self.pipes:
            like = pcm.Pcm(source.rate, channels * len(pipe.places), code)
            which = ", ".join(self.names[k] for k in pipe.places)
            self.say(f"{pipe.name}: source{'s' if len(pipe.places) > 1 else ''} {which} as raw samples: {like}")
        if barred := cards.barred(self.maker.card):
            self.say(f"model {show(self.maker.ref)}: {barred}")
        self.say(f"{source.name}: listening, latency {1e3 * live.latency_s:.1f} ms and a block")

    def _told(self, source: Incoming, record: Record, outputs: Outputs, stop: Noting) -> None:
        """Say at the end what was noted, warnings also when quiet."""
        if source.left_over:
            self.say(
                f"{source.name}: ended inside a frame: {source.left_over} bytes behind the last whole one left out"
            )
        if source.missing:
            self.say(f"{source.name}: {source.missing / source.rate:g} s shorter than its header says; heard what came")
        if source.dropped:
            self.say(
                f"{source.name}: {source.dropped / source.rate:.2f} s came faster than they were separated: dropped"
            )
        if outputs.limited:
            self.say(f"{outputs.limited} samples beyond full scale were limited; --subtype FLOAT keeps them")
        if not self.quiet and record.pacing:
            self.say(told(record.pacing, record.duration_s, record.rtf))
        for pipe in outputs.left:
            self.say(f"{pipe}: its reader has left")
        if stop():
            where = f", whole in {', '.join(record.outputs)}" if record.written else ""
            self.say(f"usep: stopped by {name_of(stop.number)}: {record.duration_s:.2f} s were heard{where}")
        self.left, self.alone = outputs.left, outputs.alone

    def end(self, stop: Noting, heard: bool) -> None:
        """Raise what ended the stream before its end."""
        if self.fault:
            raise self.fault
        if stop() and not heard:
            self.say(f"usep: stopped by {name_of(stop.number)}: nothing was heard")
        stop.stop()
        if self.left and self.alone:
            raise SystemExit(READER_LEFT)
        if self.left:
            raise PartialFailure(f"{', '.join(self.left)}: its reader left before the end; the other outputs are whole")

    def _record(
        self, source: Incoming, pace: LivePace, outputs: Outputs, heard: _Heard, channels: int, subtype: str
    ) -> Record:
        meter, stored, tracks = heard.meter, heard.stored, []
        meter.finish()
        activity = meter.activity()
        levels, lufs = (stored.levels_db(), stored.lufs()) if stored else ([], [])
        silent = meter.silent(range(len(self.names)))
        for file, name in zip(outputs.files, self.job.names, strict=False):
            k = self.names.index(name)
            facts = sha256(file.path), file.path.stat().st_size, float(stored.peaks[k]) if stored else math.nan
            tracks.append(Track(name, file.path, True, *facts, levels[k], lufs[k], activity[k], not silent[k]))
        nan = math.nan
        frames = outputs.files[0].frames if outputs.files else pace.heard
        return Record(
            file=self.job.file, source=self.job.source, relative=self.job.relative, tracks=tuple(tracks), frames=frames,
            rate=source.rate, channels=channels, subtype=subtype, gain_db=0.0, missing_s=source.missing / source.rate,
            null_db=nan, null_peak_db=nan, rtf=pace.rtf, seams=(), step_s=nan,
            identity=Identity(source.bytes, 0, source.sha256), settings=self.wish.settings,
            pacing=pace.facts(source.dropped), method=self.wish.method,
        )  # fmt: skip


class _Heard:
    """Measures the sources on the way, half a second at a time: in blocks of milliseconds it would take longer."""

    def __init__(self, meter: Meter, stored: Stored | None, code: str, meters: Meters) -> None:
        """`stored` takes what files of such samples hold; None where there are none."""
        self.meter, self.stored, self._code, self._shown = meter, stored, code, meters
        self._held: list[np.ndarray] = []
        self._count = 0

    def add(self, sources: np.ndarray) -> None:
        """Take in the next sources (N, C, t)."""
        self._shown.show(sources)
        self._held.append(sources)
        self._count += sources.shape[2]
        if self._count >= _METERED_S * self.meter.rate:
            self._push()

    def _push(self) -> None:
        sources = np.concatenate(self._held, axis=2)
        self.meter.push(sources)
        if self.stored:
            self.stored.push(pcm.stored(sources, self._code))
        self._held, self._count = [], 0

    def end(self) -> None:
        """Take in what is held, and clear the line away."""
        if self._held:
            self._push()
        self._shown.end()


def _three(sources: np.ndarray) -> np.ndarray:
    """Return sources as (N, C, t)."""
    return sources if sources.ndim == 3 else sources[:, None]


@contextmanager
def _held(out: Path, wanted: bool) -> Iterator[Ledger | None]:
    """Give the tables of the output folder, which is this run's as long; None where there are no files."""
    if not wanted:
        yield None
        return
    with Ledger(out) as ledger:
        yield ledger
