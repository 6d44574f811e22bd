"""What is to be scored: a model on a manifest, separated files, or a table of words; checked before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from usepcli import registry
from usepcli.engine.scoring import in_flight
from usepcli.errors import BadInput, InputNotFound, UsageError, choices, did_you_mean

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.dsp.oracle import Oracle
    from usepcli.engine.journal import Part
    from usepcli.engine.scoring.assigning import Assign
    from usepcli.engine.scoring.evaluate import Scorer
    from usepcli.engine.scoring.protocols import Protocol
    from usepcli.engine.scoring.systems import System
    from usepcli.models.queried import Model
    from usepcli.weights.store import Card

Rows = list[dict[str, Any]]
Say = Callable[[str], None]
SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "testset"
# Scores of a whole set, or of sums of its mixtures: no metric of one source against its reference.
OF_SETS = ("momi", "wer", "presence")
CHANNELS = ("each", "first", "mix")  # those of data.items, which loads numpy


@dataclass(frozen=True)
class Folders:
    """Separated files of anybody: folders of estimates, true sources and mixtures, None where not named."""

    estimates: Path | None = None
    references: Path | None = None
    mixtures: Path | None = None
    skip_missing: bool = False

    @property
    def named(self) -> bool:
        """Whether separated files are scored, and no model."""
        return any(folder is not None for folder in (self.estimates, self.references, self.mixtures))


@dataclass(frozen=True)
class Speech:
    """What the words of the sources are compared with: a table of hypotheses or a recogniser, and the texts."""

    hypotheses: Path | None = None
    asr: Path | None = None
    language: str = "en"
    texts: Path | None = None
    kaldi_export: Path | None = None


@dataclass(frozen=True)
class Measures:
    """The scores that are asked for: of sources, of sets, or of a protocol."""

    asked: tuple[str, ...]
    protocol: Protocol | None
    unprocessed: bool
    folders: Folders
    oracles: tuple[Oracle, ...] = ()
    subject: Oracle | None = None  # scored in place of a model
    consistency: tuple[str, ...] = ()
    assign: Assign | None = None
    more: ClassVar[tuple[str, ...]] = ()  # columns of words beside the scores

    @property
    def label(self) -> str:
        """What is scored, as the rows of a summary call it where others stand beside."""
        from usepcli.engine.scoring import evaluate, results

        return results.SEPARATED if self.subject is None else f"{evaluate.ORACLE}{self.subject}"

    def scorer(self, channels: str) -> Scorer:
        """Return what scores an item so."""
        from usepcli.engine.scoring.evaluate import Scorer

        return Scorer(
            tuple(self.metrics), self.protocol, self.unprocessed, channels, self.oracles, self.subject, self.assign
        )

    @property
    def metrics(self) -> list[str]:
        """The metrics per source: none under a protocol, si-snri (or si-snr) where nothing was asked for."""
        found = [name for name in dict.fromkeys(self.asked) if name not in OF_SETS]
        if found or self.asked or self.protocol:
            return found
        return ["si-snr" if self.folders.named and self.folders.mixtures is None else "si-snri"]


@dataclass(frozen=True)
class Means:
    """With what it is scored: how many items, on which device, by how many processes and threads, said to whom.

    channels: what is heard of files that have several, one of items.CHANNELS.
    """

    limit: int
    device: str
    workers: int
    threads: int
    say: Say
    channels: str = "each"


@dataclass
class Job:
    """Something to score: its facts for evaluate.json, its default folder, and how to score it item by item.

    A model is loaded by `open`, once all that can be wrong without it has been looked at, and only where items are
    left to score.
    """

    facts: dict[str, Any]
    out: Path
    run: Callable[[Callable[[Iterable[Any], int], Iterable[Any]], Part], Rows]
    manifest: Manifest | None = None
    net: Model | None = None
    device: Any = "cpu"
    open: Callable[[], None] = lambda: None
    opened: Callable[[str], None] = lambda device: None  # is told where the model computes
    ordered: bool = False  # the model is asked, so that its estimates have an order
    consistency: str = ""  # what the rows under other mixture consistency are, in words
    files: Callable[[], Iterable[Path]] = tuple  # what is read, so that changed files are other data
    heard: Callable[[], System] | None = None  # what is heard on a page, where that is neither the model nor files


def measures(
    metric: Sequence[str],
    protocol: str,
    unprocessed: bool,
    folders: Folders,
    oracle: Sequence[str] = (),
    stft: str = "",
    bounds: bool = False,
    consistency: Sequence[str] = (),
) -> Measures:
    """Return the scores asked for; UsageError where one is unknown or does not fit what is scored.

    Oracles, by name and STFT, stand above a table as the mixture itself does below it, so it comes with them.  bounds:
    nothing is separated, and the first of them takes the place of the model.
    """
    from usepcli.dsp import oracle as masks
    from usepcli.engine.scoring import consistencies

    oracle = oracle or (masks.USUAL,) * bounds
    if stft and not oracle:
        raise UsageError("--stft is that of --oracle and of --assign frame: name one, or leave it away")
    oracles = tuple(dict.fromkeys(masks.find(name, stft or masks.STFT_DEFAULT) for name in oracle))
    subject, oracles = (oracles[0], oracles[1:]) if bounds else (None, oracles)
    unprocessed = unprocessed or bool(oracles) or bounds
    known = {*registry.METRICS, *OF_SETS}
    for name in metric:
        if name not in known:
            raise UsageError(choices("metric", name, known))
    from usepcli.engine.scoring import protocols, scoring

    kinds = consistencies.checked(consistency, "files" * folders.named or "--bounds" * bounds)
    named = protocols.find(protocol) if protocol else None
    found = Measures(tuple(metric), named, unprocessed, folders, oracles, subject, kinds)
    if found.protocol and (found.metrics or folders.mixtures):
        what = f"--metric {found.metrics[0]}" if found.metrics else "--mixtures"
        raise UsageError(
            f"--protocol {found.protocol.name} says which scores and which mixtures count: leave {what} away, "
            "or score it in a run of its own"
        )
    if found.metrics:
        scoring.check_metrics(found.metrics, has_mixture=not folders.named or folders.mixtures is not None)
    if folders.named and (alone := [name for name in metric if name in ("momi", "presence")]):
        raise UsageError(f"--metric {alone[0]} hears mixtures by itself: it needs a MODEL, not --estimates")
    if unprocessed and folders.named and folders.mixtures is None and not found.protocol:
        raise UsageError("--unprocessed and --oracle need the mixtures: give --mixtures DIR")
    return found


def checked(channels: str) -> str:
    """Return a choice of channels; UsageError where there is none of that name."""
    if channels not in CHANNELS:
        raise UsageError(choices("choice for --channels", channels, CHANNELS))
    return channels


def check_subject(folders: Folders, model: str | None, data: Path | None, split: str) -> None:
    """UsageError where both files and a model are to be scored."""
    if folders.named and (model is not None or data is not None or split):
        raise UsageError("--estimates takes files: leave MODEL, --data and --split away")


def words_job(model: str | None, data: Path | None, split: str, speech: Speech, means: Means) -> Job:
    """Return the job of comparing a table of hypotheses with the texts of a manifest or of another table."""
    from usepcli.data.manifest import Manifest
    from usepcli.engine.scoring import results

    if model is not None:
        raise UsageError("a table of hypotheses is scored without a MODEL: leave it away, or ask for another --metric")
    if data is None and speech.texts is None:
        raise UsageError("--hypotheses needs what was said: --data MANIFEST with texts, or --texts FILE")
    facts: dict[str, Any] = {"settings": {"limit": means.limit, "metrics": []}}
    manifest = None
    if data is not None:
        manifest, split = chosen(Manifest.read(data), split, "test")
        facts["data"] = results.about_data(manifest, split, manifest.rows[0].sample_rate)
        means.say(f"data: {manifest.path}, split {split or 'unnamed'}, {len(manifest)} items")
    return Job(facts, Path("evaluation"), lambda track, part: [], manifest)


def files_job(folders: Folders, wanted: Measures, means: Means) -> Job:
    """Return the job of scoring separated files."""
    if folders.estimates is None or folders.references is None:
        raise UsageError("separated files need both --estimates DIR and --references DIR")
    from usepcli.engine.scoring.evaluate import score_folders

    estimates, references, mixtures = folders.estimates, folders.references, folders.mixtures
    names = {"estimates": estimates, "references": references, "mixtures": mixtures}
    facts = {key: str(path.resolve()) if path else "" for key, path in names.items()}
    settings = {"limit": means.limit, "skip_missing": folders.skip_missing, "metrics": wanted.metrics}
    settings["channels"] = means.channels
    return Job(
        {**facts, "settings": settings},
        Path("evaluation"),
        lambda track, part: score_folders(
            estimates, references, mixtures, wanted.metrics, protocol=wanted.protocol,
            unprocessed=wanted.unprocessed, oracles=wanted.oracles, subject=wanted.subject, assign=wanted.assign,
            workers=means.workers or in_flight.workers(wanted.metrics, means.limit),
            limit=means.limit, skip_missing=folders.skip_missing, channels=means.channels, part=part,
            say=means.say, track=track,
        ),
        files=lambda: [path for folder in (estimates, references, mixtures) if folder for path in _below(folder)],
    )  # fmt: skip


def _below(folder: Path) -> list[Path]:
    from usepcli.audio.formats import AUDIO_SUFFIXES

    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)


def model_job(model: str | None, data: Path | None, split: str, wanted: Measures, means: Means) -> Job:
    """Return the job of scoring a model, by default the latest run, on a manifest, by default its own."""
    ref = model or latest_run() or "default"
    if ref == "default" and not _released_default():
        raise InputNotFound(f"{_runs()}: no trained run in it and no model called default; name a MODEL")
    from usepcli import device as devices
    from usepcli.engine.scoring import asking, consistencies, results
    from usepcli.engine.scoring.evaluate import gathered, referenced, score_model
    from usepcli.weights import cards, ensembles

    devices.check(means.device)
    meant = ensembles.find(ref)
    card, path = meant.card, meant.path
    run = Path(path).parent if len(meant.members) == 1 and Path(path).name == "best.safetensors" else None
    manifest, split = _data(card, run is not None, data, split)
    means.say(f"model: {ref} ({path}), {cards.outputs(card.n_src)} at {card.sample_rate} Hz")
    means.say(f"data: {manifest.path}, split {split or 'unnamed'}, {len(manifest)} items")
    if wanted.metrics or wanted.protocol:
        refuse_twice(manifest, split, means.limit)
    asking.check(wanted.asked, card, ref)
    kinds = consistencies.of_model(wanted.consistency, card.model, ref)
    count = means.workers or in_flight.workers(wanted.metrics, min(means.limit or len(manifest), len(manifest)))
    facts: dict[str, Any] = {
        "model": {"ref": ref, "path": path, "sha256": meant.sha256, **_about(card)},
        "data": results.about_data(manifest, split, card.sample_rate),
        "settings": {
            "limit": means.limit, "device": means.device, "metrics": wanted.metrics, "channels": means.channels,
        },
    }  # fmt: skip

    def opened() -> None:
        from usepcli.weights import store

        if job.net is not None:
            return
        devices.set_threads(means.threads)
        job.net = store.load_any(ref)[0]
        job.device = devices.pick("cpu" if means.device == "auto" and job.net.on_cpu else means.device)
        facts["settings"]["device"] = str(job.device)
        job.opened(str(job.device))

    def score(track: Callable[[Iterable[Any], int], Iterable[Any]], part: Part) -> Rows:
        rows = referenced(manifest, means.limit)
        if not part.left(len(rows)):
            return gathered(part, [row.id for row in rows])
        job.open()
        assert job.net is not None
        return score_model(
            job.net, manifest, wanted.metrics, device=job.device, workers=count, limit=means.limit,
            protocol=wanted.protocol, unprocessed=wanted.unprocessed, oracles=wanted.oracles, channels=means.channels,
            consistency=kinds, assign=wanted.assign, part=part, say=means.say, track=track,
        )  # fmt: skip

    job = Job(
        facts, _place(run, data, manifest, card, split), score, manifest, open=opened, ordered=card.n_src == 0,
        files=lambda: listed(manifest, means.limit), consistency=consistencies.meaning(kinds, card.model),
    )  # fmt: skip
    return job


def refuse_twice(manifest: Manifest, split: str, limit: int) -> None:
    """BadInput where two items that are scored have one id, or there are none, or one has no references."""
    from usepcli.data.manifest import twice
    from usepcli.engine.scoring.evaluate import referenced

    if found := twice(referenced(manifest, limit)):
        raise BadInput(
            f"{manifest.path}: two items of split {split or 'unnamed'} are called '{found}', which would count twice; "
            "leave one out, or give each an id of its own"
        )


def _place(run: Path | None, data: Path | None, manifest: Manifest, card: Card, split: str) -> Path:
    """Return the default folder of the results, which names data that were chosen by --data."""
    chosen = ""
    if data is not None:
        own = (card.profile.get("data", {}) or {}).get("manifest") if run else None
        usual = Path(own) / manifest.FILE if own and Path(own).is_dir() else Path(own or "")
        if not own or usual.resolve() != manifest.path.resolve():
            chosen = named_after(manifest)
    return run / f"eval{chosen}_{split or 'all'}" if run else Path(f"evaluation{chosen}")


def named_after(manifest: Manifest) -> str:
    """Return the end of the name of a folder of results on data that were chosen."""
    at = manifest.path.resolve()
    return f"_{at.parent.name if at.name == manifest.FILE else at.stem}"


def listed(manifest: Manifest, limit: int) -> list[Path]:
    """Return the sound files of the rows that are scored."""
    rows = manifest.rows[: limit or None]
    return [manifest.resolve(name) for row in rows for name in (row.mixture, *row.sources) if name]


def _about(card: Card) -> dict[str, Any]:
    return {
        "name": card.name, "architecture": card.model.get("name", ""), "objective": card.objective,
        "sample_rate": card.sample_rate, "n_src": card.n_src, "steps": card.steps,
    }  # fmt: skip


def _runs() -> Path:
    return Path(os.environ.get("USEP_RUNS") or "runs")


def latest_run() -> str:
    """Return the run folder with the newest best.safetensors, or ''."""
    found = sorted(_runs().glob("**/best.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    return str(found[-1].parent) if found else ""


def _released_default() -> bool:
    return (SAMPLES.parent.parent / "pretrained" / "default.safetensors").is_file()


def _data(card: Card, is_run: bool, data: Path | None, split: str) -> tuple[Manifest, str]:
    """Return the rows to score and their split: from --data, the run's own manifest, or the shipped set."""
    from usepcli.data.manifest import Manifest

    own = card.profile.get("data", {}) if data is None and is_run else {}
    place = data or Path(own.get("manifest") or "") if data or own.get("manifest") else None
    if place is None and is_run:
        raise UsageError("this run was trained without a manifest; give one to score it on with --data")
    if place is not None and data is None and not place.exists():
        raise InputNotFound(f"{place}: the run's data.manifest is not here; give a test set with --data")
    return chosen(Manifest.read(place or SAMPLES), split, own.get("test_split") or "test")


def chosen(table: Manifest, split: str, usual: str) -> tuple[Manifest, str]:
    """Return the rows of `split`, by default of the usual one, or all of a table without splits; and its name."""
    wanted = split or usual
    found = table.split(wanted)
    if not len(found) and not split and set(table.splits()) == {""}:
        return table, ""  # a manifest without splits is one set
    if not len(found):
        there = table.splits()
        listed = ", ".join(f"{name or 'unnamed'} ({count})" for name, count in there.items()) or "no rows"
        raise BadInput(f"{table.path}: no split '{wanted}'{did_you_mean(wanted, there)}; it has {listed}")
    return found, wanted
