"""Checkpoints of other toolkits for architectures that usep has, made into model files of usep.

A checkpoint is read as tensors, plain values and text (foreign_source.py) or not at all; what it says is compared with
its tensors before a model is built, and every tensor must find its place. Who knows whose files is told by one module
for each maker, which `registry.MAKERS` names:

    ABOUT          whose what it reads, in words
    CODE           the licence of the maker's code
    knows(source)  whether these files are the maker's, looking at names first
    read(source, stated)    settings, weights and history in our names, a Found
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from usepcli import files, registry
from usepcli.engine.exchange import foreign_source
from usepcli.engine.exchange.foreign_parts import Found, Stated, plain, some
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput, OutputError, UsageError, choices
from usepcli.weights import cards
from usepcli.weights.cards import UNSTATED

if TYPE_CHECKING:
    from usepcli.models.queried import Model


class Maker(Protocol):
    """What the module of a maker has."""

    ABOUT: str
    CODE: str

    def knows(self, source: Source) -> bool:
        """Return whether the files are this maker's."""

    def read(self, source: Source, stated: Stated) -> Found:
        """Return what is in them."""


@dataclass(frozen=True)
class Words:
    """What the card of an imported model says where the files say nothing; licence: of the training data."""

    name: str = ""
    licence: str = ""
    training_data: str = ""
    licence_code: str = ""
    licence_weights: str = ""


@dataclass
class Imported:
    """A written model file, its model, its card and what a user should know of the conversion."""

    path: Path
    model: Model
    card: cards.Card
    notes: list[str]


def import_checkpoint(
    checkpoint: Path, out: Path, *, kind: str = "", licence: str = "", licence_weights: str = "",
    licence_code: str = "", training_data: str = "", name: str = "", sample_rate: int = 0, mask: str = "",
    blocks: int = 0, text_encoder: str = "", fit_level: bool = False, overwrite: bool = False,
) -> Imported:  # fmt: skip
    """Do `import_model` with the options of `usep import`."""
    stated = Stated(sample_rate, mask, blocks, text_encoder)
    words = Words(name, licence, training_data, licence_code, licence_weights)
    return import_model(checkpoint, out, kind, stated, words, overwrite, fit_level)


def import_model(
    checkpoint: Path, out: Path, kind: str = "", stated: Stated | None = None, words: Words | None = None,
    overwrite: bool = False, fit_level: bool = False,
) -> Imported:  # fmt: skip
    """Convert a checkpoint file or folder; BadInput if it is of no known maker, UsageError if options have to say more.

    fit_level puts one gain into the decoder that brings the sum of the outputs to the level of the input.
    """
    check_kind(kind)
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: expected a name that ends in .safetensors")
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: exists already; choose another name with -o, or --overwrite")
    return convert(foreign_source.on_disk(checkpoint), out, kind, stated, words, fit_level, overwrite=overwrite)


def convert(
    source: Source, out: Path, kind: str = "", stated: Stated | None = None, words: Words | None = None,
    fit_level: bool = False, known: Words | None = None, scores: Sequence[dict[str, Any]] = (),
    home: Path | None = None, overwrite: bool = False,
) -> Imported:  # fmt: skip
    """Write a checkpoint as a model file of usep; errors as for `import_model`.

    known and scores: what is told elsewhere of this very checkpoint, where neither it nor `words` says anything.  home:
    where the file will stand, if not at `out`; a text tower in the checkpoint comes to stand beside `out`, and the
    model looks for it beside `home`.
    """
    words = words or Words()
    found = read_source(source, kind, stated)
    from usepcli.encoders.towers import sum_of
    from usepcli.engine.exchange import foreign_tower
    from usepcli.weights import fitting, store

    with foreign_tower.built(found.tower, out) as tower:
        if tower:
            place = foreign_tower.beside((home or out).resolve())
            found.model |= {"conditioner_path": str(place), "conditioner_sha256": sum_of(tower)}
        model = fitting.model(found.model, found.state, source.where)
        card = _card(found, model, source, words, known or Words(), words.name or out.stem)
        card.scores = card.scores or list(scores)
        _levelled(found, model, card, source.where, fit_level)
        if tower:
            foreign_tower.moved(tower, foreign_tower.beside(out), overwrite)
        store.save_model(out, model.state_dict(), card)
    said = {"--licence": card.licence, "--licence-weights": card.licences.get("weights", UNSTATED)}
    if lacking := [option for option, licence in said.items() if licence == UNSTATED]:
        whose = {"--licence": "the training data", "--licence-weights": "the weights"}
        what = " and ".join(f"{whose[option]} ({option})" for option in lacking)
        found.notes.append(f"nothing states the licence of {what}; the card now says 'unstated'")
    return Imported(out, model, card, found.notes)


def _levelled(found: Found, model: Model, card: cards.Card, where: str, fit_level: bool) -> None:
    """Note where the outputs stand, or put a gain into the model; one by words has no outputs that add up."""
    from usepcli.engine.exchange import foreign_level
    from usepcli.models.separator import SeparationModel
    from usepcli.weights import fitting

    if not isinstance(model, SeparationModel):
        if fit_level:
            raise UsageError(f"{where}: answers words, and answers do not add up to the input; leave --fit-level out")
        return
    level = foreign_level.measure(model)
    if fit_level:
        fitting.load_into(model, foreign_level.fit(model.state_dict(), level, where, found.gain), where)
        card.origin += f", outputs times {level.gain:.6g}"
    elif level.note:
        found.notes.append(level.note)


def check_kind(kind: str) -> None:
    """UsageError unless a kind of checkpoint is known, or empty."""
    if kind and kind not in registry.MAKERS:
        raise UsageError(choices("kind of checkpoint", kind, registry.MAKERS))


def read(checkpoint: Path, kind: str = "", stated: Stated | None = None) -> Found:
    """Return settings, weights and history of a checkpoint file or folder in our names."""
    return read_source(foreign_source.on_disk(checkpoint), kind, stated)


def read_source(source: Source, kind: str = "", stated: Stated | None = None) -> Found:
    """Return the same of files wherever they lie; BadInput if no maker knows them."""
    name = maker_of(source)
    if not name:
        raise BadInput(f"{source.where}: {_seen(source)}; known are {known()}")
    if kind not in ("", name):
        raise BadInput(f"{source.where}: a checkpoint of {name}, not of {kind}; leave --kind out")
    stated = stated or Stated()
    found = maker(name).read(source, stated)
    if stated.text and found.model.get("name") not in registry.QUERIED:
        raise UsageError(f"{source.where}: separates without words; leave --text-encoder out")
    found.code = found.code or maker(name).CODE
    return found


def maker(name: str) -> Maker:
    """Return the module of a maker in the registry."""
    return cast(Maker, registry.maker(name))


def maker_of(source: Source) -> str:
    """Return the name of the maker whose files these are, '' for none."""
    return next((name for name in registry.MAKERS if maker(name).knows(source)), "")


def known() -> str:
    """Return in words what can be imported."""
    return ", ".join(maker(name).ABOUT for name in registry.MAKERS)


def _seen(source: Source) -> str:
    """Say what was found in files of no known maker."""
    if not source.single:
        return f"{len(source.names)} files of no known maker ({some(source.names) or 'none at all'})"
    raw = source.raw(source.single)
    state = foreign_source.state_of(raw)
    if "pytorch-lightning_version" in raw and not state:
        return "a training state of Lightning; save the model itself (asteroid: torch.save(model.serialize(), FILE))"
    keys = sorted(map(plain, state or raw))[:4]
    what = f"{len(state)} tensors" if state else f"a dictionary of {len(raw)} keys"
    return f"{what} of an unknown kind ({', '.join(keys) or 'empty'})"


def _card(found: Found, model: Model, source: Source, words: Words, known: Words, name: str) -> cards.Card:
    from usepcli.weights import build

    for option, said, here in (
        ("--licence", words.licence, found.licence),
        ("--training-data", words.training_data, found.training_data),
    ):
        if said and here:
            raise UsageError(f"{source.where}: the file states '{here}' itself; leave {option} out")
    return cards.Card(
        name=name,
        about=f"{cards.IMPORTED} a checkpoint of {found.origin}",
        model=build.config_of(model),
        sample_rate=model.sample_rate,
        n_src=model.n_src,
        cost=build.cost_of(model),
        training_data=found.training_data or words.training_data or known.training_data or UNSTATED,
        licence=found.licence or words.licence or known.licence or UNSTATED,
        licences={
            "code": words.licence_code or found.code,
            "weights": words.licence_weights
            or found.weights
            or card_licence(source)
            or known.licence_weights
            or UNSTATED,
        },
        credits=found.credits,
        scores=found.scores,
        versions=found.versions,
        origin=_origin(source, found.origin),
    )


def _origin(source: Source, kind: str) -> str:
    sums = [f"{plain(name)} sha256 {files.sha256(path)}" for name, path in sorted(source.used.items())]
    if source.single:
        path = source.path(source.single)
        return f"{plain(path.name)}, {kind}, sha256 {files.sha256(path)}"
    return f"{plain(Path(source.where).name)}, {kind}: {', '.join(sums)}"


def card_licence(source: Source) -> str:
    """Return the licence at the head of a folder's README.md, which the Hub takes for that of the weights; '' if none.

    A head that cannot be read states nothing.
    """
    if source.single or "README.md" not in source.names:
        return ""
    from usepcli.engine.exchange.foreign_text import from_yaml

    parts: Sequence[str] = re.split(r"(?m)^---\s*$", source.text("README.md"), maxsplit=2)
    if len(parts) < 3 or parts[0].strip():
        return ""
    try:
        top = from_yaml(parts[1], "README.md")
    except BadInput:
        return ""
    said = top.get("license_name") if top.get("license") == "other" else top.get("license")
    return plain(said) if isinstance(said, str) else ""
