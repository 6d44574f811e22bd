"""Finding out how a model's answers tell what is there, which its card keeps: of one by query the measures that make a
presence, of others how far below the recording an output counts as silent (silences.py).

usep calibrate MODEL      scenes that the model did not learn from: the split that chose its weights, or others
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine.separation.ending import Ending
from usepcli.errors import BadInput, InputNotFound, OutputError, UsageError
from usepcli.files import show, write_bytes
from usepcli.weights import cards, reach

if TYPE_CHECKING:
    from usepcli.data.manifest import Manifest
    from usepcli.models.queried import Model


def calibrate(
    model: str,
    *,
    data: Path | None = None,
    split: str = "",
    channels: str = "mix",
    limit: int = 0,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Calibrate the presence of a model by query, or the silence of another's outputs; return what its card now holds.

    data: a manifest with queries, or with sources, by default that of the run, and its validation split.  out: a copy
    with the new card; by default the model's own file gets it.  UsageError for a model of one output, BadInput for data
    without queries or sources.
    """
    from usepcli import device as devices
    from usepcli.engine.scoring.jobs import CHANNELS, chosen
    from usepcli.errors import choices

    devices.check(device)
    if channels not in CHANNELS:
        raise UsageError(choices("choice for --channels", channels, CHANNELS))
    path = reach.find_model(model)
    card = cards.read_card(path)[0]
    if card.n_src == 1:
        raise UsageError(f"{show(model)}: has one output, which is never silent; calibrate a model of several")
    target = _target(path, out, overwrite)
    own = card.profile.get("data")
    own = own if isinstance(own, dict) else {}
    table = _table(data, own)
    found, split = chosen(table, split, str(own.get("valid_split") or "valid"))
    found = replace(found, rows=found.rows[:limit]) if limit else found
    say(
        f"model: {show(model)} ({show(path)}); data: {show(found.path)}, split {split or 'unnamed'}, {len(found)} items"
    )
    with Ending():
        from usepcli.weights import store

        net = store.load_any(path)[0]
        where = devices.pick(device)
        devices.set_threads(threads)
        name = f"{found.path}, split {split or 'unnamed'}"
        if card.n_src:
            from usepcli.engine.scoring import silences

            silence = silences.measured(net, found, name, device=where, channels=channels, quiet=quiet)
            put(path, {"silence": silence}, target)
            return {"model": str(target), **silence}
        presence = measured(net, found, name, device=where, channels=channels, seed=seed, quiet=quiet)
        put(path, {"presence": presence}, target)
    return {"model": str(target), **presence}


def measured(
    net: Model, found: Manifest, name: str, *, device: Any, channels: str, seed: int = 0, quiet: bool = True
) -> dict[str, Any]:
    """Return what a card holds of presence, by the answers of a model to the queries of data called `name`."""
    from usepcli.engine.scoring import asking
    from usepcli.report.progress import progress
    from usepcli.separator.borrowing import borrowed

    with borrowed(net, device) as separator:
        if not separator.by_query:
            raise UsageError("this model takes no queries: its outputs are what it was trained for")
        rows = asking.ask_all(
            separator, found, seed=seed, channels=channels,
            track=lambda items, total: progress(items, total, desc="asking", unit="item", quiet=quiet),
        )  # fmt: skip
    return asking.calibrated(rows, name, asking.usual_window(found))


def put(path: Path, held: dict[str, Any], target: Path | None = None) -> None:
    """Write a model file with fields of its card replaced, over itself or to another place."""
    card = cards.read_card(path)[0]
    write_bytes(target or path, cards.with_card(path.read_bytes(), replace(card, **held)))


def _table(data: Path | None, own: dict[str, Any]) -> Manifest:
    from usepcli.data.manifest import Manifest

    named = own.get("manifest")
    if data is None and not (isinstance(named, str) and named):
        raise UsageError("the model's card names no manifest; give scenes that it did not learn from with --data")
    place = data or Path(str(named))
    if data is None and not place.exists():
        raise InputNotFound(f"{show(place)}: the model's data.manifest is not here; give others with --data")
    return Manifest.read(place)


def _target(path: Path, out: Path | None, overwrite: bool) -> Path:
    """Return where the file goes; OutputError where it may not be written there."""
    if out is None:
        if path.parent.resolve() == reach.shipped_folder().resolve():
            raise OutputError(f"{show(path)}: comes with usep and stays as it is; write a copy with -o FILE")
        return path
    if out.suffix != reach.SUFFIX:
        raise UsageError(f"--out {show(out)}: expected a name that ends in {reach.SUFFIX}")
    if out.is_dir() or (out.exists() and not overwrite):
        raise OutputError(f"{show(out)}: exists already; choose another name or pass --overwrite")
    return out


def of_run(path: Path, net: Model, found: Manifest | None, name: str, device: Any, channels: str) -> str:
    """Calibrate the model of a run, unless it is, and return what is to be said of it; '' for one without queries."""
    card = cards.read_card(path)[0]
    if card.n_src or card.presence:
        return ""
    try:
        if found is None:
            raise BadInput(f"{name}: nothing to ask in it")
        presence = measured(net, found, name, device=device, channels=channels)
    except BadInput as fault:
        return f"presence not calibrated: {fault}; see usep calibrate"
    put(path, {"presence": presence})
    return (
        f"presence calibrated on {presence['present']} queries of {name} and {presence['absent']} of other items: "
        f"{100 * presence['misses']:.0f} % missed, {100 * presence['false_alarms']:.0f} % false alarms"
    )
