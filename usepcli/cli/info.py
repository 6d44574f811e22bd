"""`usep info`: what a model, a run or a checkpoint is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from usepcli import registry
from usepcli.cli import _options as options
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.files import read_json
from usepcli.weights import cards, reach, readers, tried

if TYPE_CHECKING:
    from usepcli.models.queried import Model
    from usepcli.weights.cards import Cost


def _takes(parameters: int, rate: int, outputs: int, cost: Cost) -> dict[str, Any]:
    """Return size, delay and arithmetic of a model; seconds and milliseconds at its own sample rate."""
    field = cost.receptive_field_samples
    return {
        "parameters": parameters,
        "sample_rate": rate,
        "outputs": outputs,
        "causal": cost.causal,
        "live": cost.live,
        "receptive_field_s": None if field is None else round(field / rate, 4),
        "latency_ms": round(1000 * cost.latency_samples / rate, 3) if cost.causal else None,
        "gflop_per_second": round(cost.flops_per_second / 1e9, 4) or None,
    }


def _measured(model: Model) -> dict[str, Any]:
    from usepcli.weights import build
    from usepcli.weights.cards import Cost

    return _takes(model.n_params, model.sample_rate, model.n_src, Cost(**build.cost_of(model)))


def _of_model(ref: str) -> dict[str, Any]:
    path = reach.find_model(ref)
    header = readers.header(path)
    if not readers.whole(path, header):
        raise BadInput(f"{path}: weights do not match their sha256; the file is damaged, fetch it again")
    card = header.card
    cost = cards.cost(card)
    if cost is not None and card.sample_rate:
        takes = _takes(header.n_params, card.sample_rate, card.n_src, cost)
    else:  # a card of an older usep: the model has to be made, which takes torch and seconds
        from usepcli.weights import store

        takes = _measured(store.load_any(path)[0])
    hidden = reach.known().get(ref, [])[1:]
    return {
        "name": card.name,
        "about": card.about,
        "trained_for": cards.trained_for(card),
        "file": str(path),
        **({"hides": [str(other) for other in hidden]} if hidden else {}),
        "file_bytes": path.stat().st_size,
        "architecture": card.model.get("name", ""),
        **takes,
        "objective": card.objective,
        "trained_steps": card.steps,
        "training_data": card.training_data,
        "licence": card.licence,
        **({"licences": {"training data": card.licence, **card.licences}} if card.licences else {}),
        **({"barred": said} if (said := cards.barred(card)) else {}),
        "credits": card.credits,
        "origin": card.origin,
        "scores": card.scores,
        "settings": card.model,
        "versions": card.versions,
        "sha256": header.sha256,
        **({"fixed": card.fixed} if card.fixed else {}),
        **({"presence": card.presence or "not calibrated"} if card.model.get("name") in registry.QUERIED else {}),
        **({"tried": card.tried} if card.tried else {}),
        **({"silence": card.silence} if card.silence else {}),
        **_pulled(path),
    }


def _pulled(path: Path) -> dict[str, Any]:
    """Return where `usep pull` had a model from, as it was recorded beside the file."""
    from usepcli.engine.exchange import hub

    record = hub.record(path)
    return {"pulled": record} if record else {}


def _of_checkpoint(path: Path) -> dict[str, Any]:
    """Return the progress that a resume file holds, and the model named by the run.json beside it."""
    from usepcli.engine.training import states
    from usepcli.engine.training.runfolder import training_data
    from usepcli.weights import build, fitting

    state = states.load_state(path)
    facts: dict[str, Any] = {"checkpoint": str(path), "file_bytes": path.stat().st_size}
    for key in ("step", "epoch", "in_epoch", "skipped", "seconds", "best"):
        if isinstance(state.get(key), (int, float)):
            facts[key] = state[key]
    record = path.with_name("run.json")
    if not record.is_file():
        return facts
    try:
        profile = read_json(record)["profile"]
        section = profile["model"]
        fitting.check_kinds(section, str(record))
        told = {
            "objective": str((profile.get("objective") or {}).get("name", "")),
            "training_data": training_data(profile["data"]["manifest"], profile["data"]["pool"]),
            "licence": str(profile.get("licence", "")),
            "credits": str(profile.get("credits", "")),
        }
        model = build.model(section)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, ConfigError) as fault:
        said = " ".join((str(fault) or type(fault).__name__).split())[:200]
        raise BadInput(f"{record}: not a run record of usep ({said}); bring it back, or name another file") from fault
    return facts | {"architecture": section["name"], **_measured(model), **told}


def _of_run(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"run": str(folder)}
    last, best = folder / "last.ckpt", folder / "best.safetensors"
    if last.is_file():
        facts |= _of_checkpoint(last)
    if best.is_file():
        facts |= _of_model(str(best))
    from usepcli.engine.training import status

    how = status.read(folder)
    if len(facts) == 1 and not how:
        raise InputNotFound(f"{folder}: neither best.safetensors nor last.ckpt is in this folder")
    return facts | ({"status": how} if how else {})


def _named(name: str, folder: Path) -> bool:
    """Return whether a name means a model and not the folder that is called alike, as `reach.find_model` has it."""
    run = any((folder / file).is_file() for file in ("last.ckpt", "best.safetensors"))
    return name in reach.released() or (name in reach.known() and not run)


def info(
    file: Annotated[
        str, options.model_argument("Model by name (see: usep models), .safetensors file, run folder or .ckpt file.")
    ],
    as_json: options.Json = False,
) -> None:
    """Print what a model, a run folder or a checkpoint is.

    Architecture, parameters, sample rate, outputs, whether it takes blocks as they come (live), receptive field
    (empty: the whole recording), latency (causal models only), GFLOP per second of audio, objective, training data with
    its licence and credits, scores with data and protocol, and where a pulled model came from.

    \b
    Examples:
      usep info default
      usep info runs/small_pit --json
    """
    path = Path(file)
    if path.is_dir() and not _named(file, path):
        facts = _of_run(path)
    elif path.suffix == ".ckpt" and path.is_file():
        facts = _of_checkpoint(path)
    else:
        facts = _of_model(file)
    if not as_json:
        scores = facts.get("scores", [])
        facts |= {"scores": options.Sentences(map(cards.score_sentence, scores)) or "none"} if "scores" in facts else {}
        facts |= {"tried": tried.sentence(facts["tried"])} if "tried" in facts else {}
        facts |= {"outputs": facts["outputs"] or "by query"} if "outputs" in facts else {}
        facts = {key: "" if value is None else value for key, value in facts.items()}
    options.report(facts, as_json)
