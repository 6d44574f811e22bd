"""Demucs of its authors: a bag in YAML beside its networks, or one network, in safetensors or in their own package.

    NAME.yaml    models: [SIG, ...]    weights: [[one for each source], ...], equal ones if not said    segment: seconds
    SIG.safetensors    metadata klass, args and kwargs (JSON) of the constructor
    SIG-CHECKSUM.th    the same as a torch file, {klass, args, kwargs, state}

Of a bag, all networks have to be alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usepcli.engine.exchange import foreign_demucs_nets as nets_of
from usepcli.engine.exchange.foreign_demucs_nets import KLASSES, number
from usepcli.engine.exchange.foreign_parts import Found, Stated, plain, some
from usepcli.engine.exchange.foreign_source import Source, checked, metadata, unwrapped
from usepcli.errors import BadInput, UsageError

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "Hybrid Demucs, with a Transformer or without (htdemucs, hdemucs)"
CODE = "MIT"
_FILE = r"[0-9a-f]{8}(?:-[0-9a-f]{8})?\.(?:safetensors|th)"


def knows(source: Source) -> bool:
    """Return whether files are named as such a bag is, or one file says that it is such a network."""
    if not source.single:
        return bool(source.first(_FILE) and source.first(r"[^/]+\.yaml"))
    if source.single.endswith(".safetensors"):
        return metadata(source.path(source.single), source.where).get("klass", "").startswith("demucs.")
    return {"klass", "args", "kwargs", "state"} <= source.raw(source.single).keys()


def read(source: Source, stated: Stated) -> Found:
    """Return a bag, or one network, as one model; BadInput where the networks of a bag are not alike."""
    if stated.mask or stated.blocks:
        raise UsageError(f"{source.where}: states its own settings; leave --mask and --blocks out")
    if source.single:
        names, weights, segment = [source.single], None, None
    else:
        names, weights, segment = _bag(source)
    nets = [_network(source, name, stated) for name in names]
    for name, (settings, _) in zip(names, nets, strict=True):
        if odd := [key for key, value in settings.items() if value != nets[0][0].get(key)]:
            raise BadInput(
                f"{source.at(name)}: {odd[0]} is {plain(settings[odd[0]])}, in {names[0]} {plain(nets[0][0][odd[0]])}; "
                "expected networks of one kind in a bag; import each by itself"
            )
    model = {**nets[0][0], "bag": len(nets), "weights": weights}
    # Their program takes the bag's segment, of a network that was made for shorter ones its own.
    if segment is not None and segment > 0 and (model["name"] == "hdemucs" or segment < model["segment_s"]):
        model["segment_s"] = segment
    state = {f"nets.{k}.{key}": value for k, (_, held) in enumerate(nets) for key, value in held.items()}
    whose = next(klass for klass, name in KLASSES.items() if name == model["name"]).rpartition(".")[2]
    return Found(whose + (f", a bag of {len(nets)}" if len(nets) > 1 else ""), model, state, gain=())


def _bag(source: Source) -> tuple[list[str], list[list[float]] | None, float | None]:
    """Return the files of a bag, their weights and the longest segment, the last two None where not said."""
    tables = [name for name in source.names if name.endswith(".yaml") and "/" not in name]
    if len(tables) > 1:
        raise BadInput(f"{source.where}: {len(tables)} bags ({some(tables)}); expected the folder of one")
    told, where = source.yaml(tables[0]), source.at(tables[0])
    listed = told.get("models")
    if not isinstance(listed, list) or not 1 <= len(listed) <= 100:
        raise BadInput(f"{where}: models is {plain(listed)[:60]!r}; expected a list of names of networks")
    names = [source.first(rf"{re.escape(str(sig))}(?:-[0-9a-f]{{8}})?\.(?:safetensors|th)") for sig in listed]
    if lacking := [str(sig) for sig, name in zip(listed, names, strict=True) if not name]:
        raise BadInput(f"{where}: no file of network {some(lacking)}; expected {lacking[0]}.safetensors beside it")
    rows, segment = told.get("weights"), told.get("segment")
    if rows is not None and not (isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
        raise BadInput(f"{where}: weights is {plain(rows)[:60]!r}; expected a list of numbers for each network")
    weights = None if rows is None else [[number(where, "weights", one) for one in row] for row in rows]
    return names, weights, None if segment is None else number(where, "segment", segment)


def _network(source: Source, name: str, stated: Stated) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and weights of one file."""
    where = source.at(name)
    klass, args, kwargs, state = _package(source, name)
    if klass not in KLASSES:
        raise BadInput(f"{where}: a network of {plain(klass)}; usep has {' and '.join(KLASSES)}")
    if args:
        kwargs = {"sources": args[0], **kwargs}
    if len(args) > 1:
        raise BadInput(f"{where}: {len(args)} arguments without names; expected the sources alone")
    return nets_of.settings(klass, kwargs, stated, where), nets_of.weights(state, kwargs, where)


def _package(source: Source, name: str) -> tuple[str, list[Any], dict[str, Any], dict[str, Tensor]]:
    """Return class, arguments, named arguments and tensors in a file."""
    where = source.at(name)
    if name.endswith(".th"):
        raw = source.raw(name)
        klass = getattr(raw.get("klass"), "named", raw.get("klass"))
        args, kwargs, held = raw.get("args"), raw.get("kwargs"), raw.get("state")
    else:
        said = metadata(source.path(name), where)
        try:
            klass, args, kwargs = said.get("klass"), json.loads(said["args"]), json.loads(said["kwargs"])
        except (ValueError, KeyError, RecursionError) as fault:
            raise BadInput(
                f"{where}: its metadata lacks the constructor's arguments (klass, args, kwargs); take the file as its "
                "makers publish it"
            ) from fault
        held = None if "structure" in said else source.tensors(name)
    if held is None or (isinstance(held, Mapping) and "__quantized" in held):
        raise BadInput(f"{where}: packed weights (DiffQ), which usep does not read; take the bag that is not quantized")
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, Mapping):
        raise BadInput(
            f"{where}: args and kwargs are no arguments of a constructor; take the file as its makers publish it"
        )
    return str(klass), list(args), dict(kwargs), checked(unwrapped(held), where)
