"""Which options of `usep prepare-data` belong to which corpora, and what others are answered with."""

from __future__ import annotations

from typing import Any

import typer

from usepcli import registry
from usepcli.errors import UsageError, choices

NOT_OPTIONS = frozenset(
    {*("source", "out", "corpus", "check", "workers", "overwrite", "dry_run", "quiet", "as_json", "shards", "shard")}
    | {"merge"}
)
WORDED = "labelled, music, vggsound"
MADE, SCENES = f"speakers, wsj-mix, events, fuss-mix, {WORDED}", f"events, fuss-mix, {WORDED}"
_FLAGS = {"pause_s": "pause", "noise_snr_db": "noise-snr", "event_snr_db": "event-snr", "rt60_s": "rt60"}


def of(corpora: str, flag: str, text: str, **more: Any) -> Any:
    """Return an option of some corpora; its default is the one in their constructors."""
    return typer.Option(flag, help=f"{text} [{corpora}]", show_default=False, **more)


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
