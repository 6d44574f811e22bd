"""How good a judge of sounds and words is: what `usep evaluate --judge` asks of it, item by item.

A judge's view of a source s of a mixture x, whose phrase is q, beside the other sources t of phrases r:
    own-phrase        cos(s, q) > max_r cos(s, r)
    above-mixture     cos(s, q) > cos(x, q)
    above-others      cos(s, q) > max_t cos(t, q)
What it cannot tell apart, no training by its word learns to: these bound weak supervision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from usepcli import registry
from usepcli.engine.scoring import jobs
from usepcli.engine.scoring.jobs import Job, Means, Measures, Rows
from usepcli.errors import BadInput, InputNotFound, UsageError, choices

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.engine.journal import Part

MEANT = {
    "own-phrase": "a source fits its own phrase better than those of the others in its mixture, in % (by chance, and "
    "for the mixture in its place, 100 over their number)",
    "above-mixture": "a source fits its phrase better than the mixture does, in %",
    "above-others": "a source fits its phrase better than the others of its mixture do, in %",
    "top-1": "of all phrases of the split a source fits its own best, in %",
    "top-5": "its own is among the five that it fits best, in %",
    "nats": "- ln softmax(scale cos) at its own phrase, over all phrases of the split; to guess gives ln of their "
    "number, and a judge that is surer than it is right gives more",
    "cos-own": "cosine of a source and its own phrase",
    "cos-mixture": "cosine of the mixture and that phrase",
    "cos-others": "mean cosine of the other sources and that phrase",
}
# Options of `usep evaluate` that ask for something else than a judge; what each is by default.
_OTHERS: Mapping[str, Any] = {
    "MODEL": None, "--estimates": None, "--references": None, "--mixtures": None, "--metric": (), "--protocol": "",
    "--unprocessed": False, "--oracle": (), "--bounds": False, "--consistency": (), "--assign": "", "--compare": "",
    "--report": False, "--hypotheses": None, "--asr": None, "--kaldi-export": None, "--workers": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Judged(Measures):
    """What is asked of a judge, and where it lies."""

    judge: str = ""
    path: Path = Path()
    more: ClassVar[tuple[str, ...]] = ("query", "nearest")  # its phrase, and of all the one that it fits best

    @property
    def label(self) -> str:
        """What is scored."""
        return f"judge {self.judge}"

    @property
    def metrics(self) -> list[str]:
        """Every measure."""
        return list(MEANT)


def asked(judge: str, path: Path | None, options: Mapping[str, Any]) -> Judged | None:
    """Return what is asked of the judge that is named, None where none is; UsageError for options beside it."""
    if not judge:
        if path is not None:
            raise UsageError("--judge-path is that of a judge: name it with --judge, or leave it away")
        return None
    if judge not in registry.JUDGES:
        raise UsageError(choices("judge", judge, registry.JUDGES))
    if path is None:
        raise UsageError(f"--judge {judge} lies in a folder: name it with --judge-path DIR")
    for name, usual in _OTHERS.items():
        given = options["model" if name == "MODEL" else name[2:].replace("-", "_")]
        if given != usual and given != [*(usual or ())]:
            raise UsageError(f"--judge scores a judge, nothing that is separated: leave {name} away")
    if not path.exists():
        raise InputNotFound(f"{path}: no such folder; expected the one of a judge {judge}")
    return Judged((), None, False, jobs.Folders(), judge=judge, path=path)


def job(data: Path | None, split: str, wanted: Judged, means: Means) -> Job:
    """Return the job of asking the judge about the sources of a manifest that have phrases."""
    from usepcli import device as devices
    from usepcli.data.manifest import Manifest
    from usepcli.engine.scoring import results

    if data is None:
        raise UsageError("--judge is asked about sources that have phrases: name a manifest with queries, --data")
    devices.check(means.device)
    manifest, split = jobs.chosen(Manifest.read(data), split, "test")
    jobs.refuse_twice(manifest, split, means.limit)
    phrases = _phrases(manifest, split)
    means.say(f"judge: {wanted.judge} ({wanted.path})")
    means.say(f"data: {manifest.path}, split {split or 'unnamed'}, {len(manifest)} items, {len(phrases)} phrases")
    facts: dict[str, Any] = {
        "judge": {"name": wanted.judge, "path": str(wanted.path.resolve()), "phrases": len(phrases)},
        "data": results.about_data(manifest, split, manifest.rows[0].sample_rate),
        "settings": {"limit": means.limit, "device": means.device, "channels": means.channels},
    }
    held: dict[str, Any] = {}

    def opened() -> None:
        if held:
            return
        device = devices.pick(means.device)
        devices.set_threads(means.threads)
        made = registry.load("judge", wanted.judge)(str(wanted.path)).to(device)
        held["judge"] = made
        facts["judge"] |= {"sha256": made.sha256, "scale": made.scale, "rate": made.rate}
        found.opened(str(device))

    def score(track: Any, part: Part) -> Rows:
        from usepcli.engine.scoring.judged import scored

        some = replace(manifest, rows=manifest.rows[: means.limit or None])
        if part.left(len(some)):
            found.open()
        return scored(held.get("judge"), some, phrases, means.channels, part, means.say, track)

    found = Job(
        facts, Path(f"judge_{wanted.judge}{jobs.named_after(manifest)}"), score, manifest, open=opened,
        files=lambda: [*jobs.listed(manifest, means.limit), *_held(wanted.path)],
    )  # fmt: skip
    return found


def conventions(phrases: int) -> dict[str, Any]:
    """Return what the measures of a judge mean, for evaluate.json."""
    from usepcli.engine.scoring import channels, protocols, scoring

    kept = {key: scoring.CONVENTIONS[key] for key in ("unequal lengths", "mean", "interval")}
    silent = f"rms at most {channels.SILENT_RMS:g}: not asked about, reason in items.csv"
    same = "sources of one phrase are none of each other's others; a source without others has four measures less"
    return {
        "name": protocols.OWN, **kept, "silent sources": silent, "equal phrases": same, "phrases": phrases,
        "metrics": MEANT,
    }  # fmt: skip


def _phrases(manifest: Manifest, split: str) -> tuple[str, ...]:
    """Return all phrases of the rows; BadInput where there are none."""
    phrases = tuple(sorted({query for row in manifest.rows for query in row.queries if query.strip()}))
    if not phrases:
        raise BadInput(
            f"{manifest.path}: no item of split {split or 'unnamed'} has queries, and a judge needs words; see "
            "`usep prepare-data --corpus labelled`, or fill in the column 'queries'"
        )
    return phrases


def _held(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
