"""Exporting a model to another runtime, and comparing what comes out there with the original on real speech."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli import device, files, guard, registry
from usepcli.audio import sample
from usepcli.engine.exchange import export_targets, hub
from usepcli.engine.exchange.export_targets import Target
from usepcli.errors import BadInput, IOFault, MissingDependency, OutputError, UsageError
from usepcli.versions import EXTRAS, versions
from usepcli.weights import cards, reach, runtimes

if TYPE_CHECKING:
    from usepcli.models.separator import SeparationModel

# Seconds at which a model of open length is traced, and at which it is compared: shorter, longer, no round numbers.
TRACED_S = 2.0
COMPARED_S = (TRACED_S, 1.3771, 3.6139)
TOLERANCE = 1e-4
_MOST_S, _MOST_BLOCK = 3600.0, 1 << 24  # a graph for one length of its input


def export(
    model: str,
    out: Path | None,
    to: str,
    *,
    queries: Sequence[str] = (),
    seconds: float = 0.0,
    live: bool = False,
    block: int = 0,
    tolerance: float = TOLERANCE,
    threads: int = 0,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write a model for another runtime and a .json beside it, and return the facts of that .json.

    seconds 0 leaves the length open, or fixes it at 4 s, and says so, where the runtime cannot; live writes one step
    on a block of so many samples (0: about 10 ms), with the state in and out, and a file of the state to begin with;
    tolerance: largest difference of a sample, full scale 1; BadInput if the outputs differ by more, and nothing is
    written then.  queries: what a model that separates by query is asked for in that file, once and for all;
    UsageError without them, and with them for any other model.
    """
    if (seconds and live) or (block and not live):
        raise UsageError("--seconds fixes the length of a whole input, --block that of a step with --live; give one")
    for option, length, least, most in (("--seconds", seconds, 1e-3, _MOST_S), ("--block", block, 1, _MOST_BLOCK)):
        if not (length == 0 or least <= length <= most):
            raise UsageError(f"{option}: found {length:g}; expected 0, or {least:g} to {most:g}")
    target = export_targets.require(to)
    source = reach.find_model(model)
    header = cards.read_header(source)
    card, digest = header.card, header.sha256
    if registry.kind_of(str(card.model.get("name"))) == "graph":
        raise BadInput(f"{source}: is an ONNX graph already, and no layers of torch's that could be written elsewhere")
    # A card may come from anybody: its name is a name only where it cannot lead into another folder.
    name = card.name if hub.NAME.fullmatch(card.name) else source.stem
    out = out or Path(name + target.suffix)
    if out.suffix != target.suffix:
        raise UsageError(f"{out}: --to {to} writes {target.suffix} files; name it {out.with_suffix(target.suffix)}")
    beside = out.with_name(out.name + ".json")
    state = out.with_name(out.name + export_targets.STATE)
    if not overwrite and (there := next((path for path in (out, beside, state) if path.exists()), None)):
        raise OutputError(f"{there}: exists; choose another -o or pass --overwrite")
    _room(out, source, 4 * header.n_numbers)
    export_targets.load(target)
    device.set_threads(threads)
    loaded, card = _answering(source, queries)
    facts: dict[str, Any] = {
        "model": card.name or source.stem, "file": out.name, "target": to,
        "weights_sha256": digest,
        "sample_rate": loaded.sample_rate, "outputs": loaded.n_src, "input": "mixture (1, samples)",
        "output": f"sources (1, {loaded.n_src}, samples)", "tolerance": tolerance,
        **({"queries": list(queries)} if queries else {}),
    }  # fmt: skip
    with hub.aside(out.parent, out.name, out) as folder:
        place, notes = folder / out.name, _notes(facts, card)
        if live:
            from usepcli.engine.exchange import export_live

            facts |= export_live.made(
                loaded, target, place, notes, sample.two_talkers(loaded.sample_rate), block, tolerance
            )
        else:
            facts |= _made(loaded, target, place, notes, seconds, tolerance, say)
        facts |= {"versions": _versions(target), "card": json.loads(card.to_json())}
        (folder / beside.name).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        # The file itself comes last: where it stands, what belongs to it stands too.
        finished = sorted(folder.iterdir(), key=lambda path: path.name == out.name)
        anew = [place for path in finished if not (place := out.with_name(path.name)).exists()]
        try:
            for path in finished:
                files.place(path, out.with_name(path.name))
        except BaseException:
            for place in anew:  # a part of them is no model
                place.unlink(missing_ok=True)
            raise
    return facts


def _room(out: Path, source: Path, size: int) -> None:
    """IOFault where the weights alone, in float32, are more than the disk has left: a trace takes half a minute."""
    above = next((folder for folder in out.parents if folder.is_dir()), None)
    free = shutil.disk_usage(above).free if above else size
    if free < size:
        raise IOFault(
            f"{out}: the weights of {source.name} take {size / 2**20:.1f} MiB, {free / 2**20:.1f} MiB are free there; "
            "make room or choose another -o"
        )


def _answering(source: Path, queries: Sequence[str]) -> tuple[SeparationModel, cards.Card]:
    from usepcli.models.queried import QueriedModel
    from usepcli.weights import store

    model, card = store.load_any(source)
    if isinstance(model, QueriedModel) != bool(queries):
        needed = "this model separates what it is asked for: say what" if not queries else "this model takes no queries"
        raise UsageError(f"{source}: {needed}")
    return (model.bound(queries) if isinstance(model, QueriedModel) else model), card


def _notes(facts: dict[str, Any], card: cards.Card) -> dict[str, str]:
    known = {key: facts[key] for key in ("sample_rate", "outputs", "weights_sha256")}
    return {f"usep_{key}": str(value) for key, value in known.items()} | {"usep_card": card.to_json()}


def _versions(target: Target) -> dict[str, str]:
    from importlib import metadata

    packages = EXTRAS[target.extra] if target.extra else ()
    return versions("torch") | {name: metadata.version(name) for name in packages}


def _made(
    model: SeparationModel, target: Target, path: Path, notes: dict[str, str], seconds: float, tolerance: float,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Write the file with an open length where that works, else with a fixed one, and return what was compared."""
    why = ""
    if not seconds:
        try:
            checks = _compared(model, target, path, notes, COMPARED_S, tolerance)
            return {"length": "any", **_summary(checks)}
        except Exception as fault:  # converters raise whatever their layers do; the fixed length below tells
            if isinstance(fault, MissingDependency) or guard.stops(fault):
                raise
            why = runtimes.first_line(fault)
        seconds = 2 * TRACED_S
        say(f"the length cannot stay open ({why}); exporting for exactly {seconds:g} s")
    try:
        checks = _compared(model, target, path, notes, (seconds,), tolerance)
    except (BadInput, MissingDependency):
        raise
    except Exception as fault:
        if guard.stops(fault):
            raise
        raise BadInput(
            f"{path.name}: the model cannot be exported ({runtimes.first_line(fault)}); try another --to"
        ) from fault
    return {"length": checks[0]["samples"], "why_fixed": why, **_summary(checks)}


def _summary(checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"max_difference": max(check["max_difference"] for check in checks), "checks": list(checks)}


def _compared(
    model: SeparationModel, target: Target, path: Path, notes: dict[str, str], lengths_s: Sequence[float],
    tolerance: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Write the file for the first length and return the largest differences at all of them."""
    import torch

    speech = sample.two_talkers(model.sample_rate)
    frames = [round(length * model.sample_rate) for length in lengths_s]
    made = target.make(model, torch.from_numpy(sample.cut(speech, frames[0], 0)), notes, len(frames) > 1)
    export_targets.put(made, path)
    run = target.open(path)
    # A fixed length is compared at two places, so that no answer is the trace's own by chance; and in silence.
    cuts = [(count, number * count // 3) for number, count in enumerate(frames if len(frames) > 1 else frames * 2)]
    waves = [("speech", sample.cut(speech, count, start)) for count, start in cuts]
    waves.append(("silence", np.zeros_like(waves[0][1])))
    return [_check(model, run, kind, wave, path.name, tolerance) for kind, wave in waves]


def _check(
    model: SeparationModel, run: export_targets.Run, kind: str, wave: np.ndarray, name: str, tolerance: float
) -> dict[str, Any]:
    """Return the largest difference on one input (1, T); BadInput if it is more than the tolerance, or no number."""
    import torch

    count = wave.shape[1]
    with torch.no_grad():
        own = model(torch.from_numpy(wave)).numpy()
    there = run(wave)
    if there.shape != own.shape:
        raise BadInput(f"{name}: gives shape {there.shape} for {count} samples, the model {own.shape}")
    worst = float(np.abs(there.astype(np.float64) - own).max())
    if not worst <= tolerance:
        raise BadInput(
            f"{name}: on {count} samples of {kind} the outputs differ from the model's by {worst:.2g}; at most "
            f"{tolerance:g} was expected (--tolerance); nothing was written"
        )
    return {"samples": count, "signal": kind, "max_difference": worst, "peak": round(float(np.abs(own).max()), 4)}
