"""Which options of `usep prepare-data` belong to which corpora, and what others are answered with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from usepcli import registry
from usepcli.cli import _options as options
from usepcli.errors import UsageError, choices
from usepcli.files import show

NOT_OPTIONS = frozenset({
    "ctx", "source", "out", "corpus", "check", "workers", "overwrite", "dry_run", "quiet", "as_json", "shards", "shard",
    "merge",
})  # fmt: skip
WORDED = "labelled, music, vggsound"
MADE, SCENES = f"speakers, wsj-mix, events, fuss-mix, {WORDED}", f"events, fuss-mix, {WORDED}"
_FLAGS = {"pause_s": "pause", "noise_snr_db": "noise-snr", "event_snr_db": "event-snr", "rt60_s": "rt60"}


def of(corpora: str, flag: str, text: str, **more: Any) -> Any:
    """Return an option of some corpora; its default is the one in their constructors."""
    return typer.Option(flag, help=f"{text} [{corpora}]", show_default=False, **more)


def refuse(ctx: typer.Context, given: dict[str, Any]) -> None:
    """Raise UsageError for options that the corpus does not have, and for a prepared set where no corpus is named."""
    asked = ctx.params
    refuse_foreign(asked["corpus"], given)
    source, out = asked["source"], asked["out"]
    # A set prepared where its recordings lie is its own source when the same command goes on.
    apart = out is None or os.path.realpath(source) != os.path.realpath(out)
    if "corpus" not in options.given(ctx) and apart and (found := _prepared(source)):
        raise UsageError(
            f"{show(source)}: a set that usep prepared ({found}), of which the corpus folder would take every sound "
            "file, sources and noise too, for a mixture; add --corpus csv to take its mixtures, or name another corpus"
        )


def _prepared(source: Path) -> str:
    """Return the file that shows a folder to be a set that usep prepared, '' for any other."""
    from usepcli.data.manifest import RECORDS, Manifest

    for name in RECORDS:
        if (source / name).is_file():
            return name
    table = source / Manifest.FILE
    if not table.is_file():
        return ""
    with open(table, encoding="utf-8-sig", errors="replace") as file:
        columns = file.readline().strip().split(",")
    return Manifest.FILE if {"mixture", "sources"} <= set(columns) else ""


def refuse_foreign(corpus: str, given: dict[str, Any]) -> None:
    """Raise UsageError for an unknown corpus and for options that this corpus does not have."""
    from usepcli.profile.signature import signature

    if corpus not in registry.CORPORA:
        raise UsageError(f"--corpus: {choices('corpus', corpus, registry.CORPORA)}")
    known = signature("corpus", corpus).parameters
    for name in given:
        if name not in known:
            owners = [other for other in registry.CORPORA if name in signature("corpus", other).parameters]
            flag = _FLAGS.get(name, name.replace("_", "-"))
            raise UsageError(f"--{flag} has no meaning for --corpus {corpus}; it belongs to: {', '.join(owners)}")
