"""From recordings on disk to manifest.csv, pool.csv and prepare.json: what `usep prepare-data` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from usepcli import registry
from usepcli.audio import tars
from usepcli.audio.io import show
from usepcli.data.corpora.base import Corpus
from usepcli.data.corpora.cutter import Cutter
from usepcli.data.corpora.maker import Maker
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row
from usepcli.engine import shards as sharing
from usepcli.engine.preparing import pack
from usepcli.engine.preparing.cut import cut
from usepcli.engine.preparing.make_mixtures import Pools, make
from usepcli.engine.preparing.prepared import Prepared
from usepcli.engine.preparing.prepared_folder import TWINS, PreparedFolder, write_bad
from usepcli.errors import BadInput, ConfigError, InputNotFound, UsageError, did_you_mean
from usepcli.files import tried
from usepcli.profile.signature import schema


def bind(corpus: str, options: dict[str, Any]) -> tuple[Corpus, dict[str, Any]]:
    """Return the adapter and its resolved options; ConfigError names every unknown or ill-typed one."""
    table = schema("corpus", corpus)
    try:
        settings = table(**options).model_dump()
    except ValidationError as err:
        lines = []
        for fault in err.errors():
            key = ".".join(map(str, fault["loc"]))
            hint = did_you_mean(key, table.model_fields) if fault["type"] == "extra_forbidden" else ""
            lines.append(f"{key}: {fault['msg']}{hint}")
        raise ConfigError(f"corpus '{corpus}': {'; '.join(lines)}") from err
    return registry.load("corpus", corpus)(**settings), settings


# Where nothing is asked of these, a set is one of a time that did not know them.
_LATER = ("closed",)


def prepare(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    corpus: str,
    options: dict[str, Any] | None = None,
    *,
    workers: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    shards: str = "",
    shard: str = "",
    merge: bool = False,
) -> Prepared:
    """Write the tables of the corpus under `source` (and the audio, where mixtures are made) into the folder `out`.

    shards: the size of tar files to write the set into, "" for none. Safe to stop and to call again: what is finished
    stays. With `shard` only a share of the audio is written, and no table; merge: no audio, BadInput where some is
    missing. InputNotFound or BadInput when the source does not hold such a corpus, ConfigError for a wrong option,
    OutputError when `out` holds something else and not `overwrite`.
    """
    source, out, size = Path(source), Path(out), pack.parse_size(shards) if shards else 0
    share = sharing.asked(shard, merge, overwrite)
    adapter, settings = bind(corpus, options or {})
    if not adapter.patterns and not source.exists():
        raise InputNotFound(f"{show(source)}: no such file or folder")
    if (share or merge) and not isinstance(adapter, Maker | Cutter):
        raise UsageError(f"--corpus {corpus} lists recordings and makes none: leave --shard and --merge out")
    if not dry_run:
        tried(out)
    asked = {name: value for name, value in settings.items() if value or name not in _LATER}
    asked |= {"shards": size} if size else {}
    summary = Prepared(out, corpus, dry_run=dry_run)
    fill: Callable[..., Sequence[Manifest | Pool]]
    if isinstance(adapter, Maker):
        pools = Pools(adapter.scan(source), *adapter.scan_noise(source), *adapter.scan_rooms())
        summary.remarks += adapter.remarks()
        rows = [*pools.rows, *(() if adapter.noise else pools.noise), *pools.rooms]
        folder = PreparedFolder(out, source, corpus, asked, rows, share, merge)
        fill = partial(make, adapter, pools, workers=workers, quiet=quiet)
    elif isinstance(adapter, Cutter):
        jobs = adapter.jobs(source)
        if not jobs:
            raise BadInput(f"{show(source)}: nothing of corpus '{corpus}' was found there")
        folder = PreparedFolder(out, source, corpus, asked, jobs, share, merge)
        summary.bad += share.of(adapter.bad) if share else adapter.bad
        fill = partial(cut, jobs, workers=workers, quiet=quiet)
    else:
        rows = [row for row in adapter.scan(source) if isinstance(row, Row)]
        if not rows:
            raise BadInput(f"{show(source)}: nothing of corpus '{corpus}' was found there")
        folder = PreparedFolder(out, source, corpus, asked, rows)
        summary.bad = adapter.bad
        summary.remarks += adapter.remarks()
        fill = partial(_list_only, adapter, rows)
    if size and not overwrite and not dry_run and _packed(folder, summary):
        return summary
    try:
        tables = fill(folder=folder, summary=summary, overwrite=overwrite)
        if size and not dry_run and not share:
            tables = _pack(tables, folder, size, summary, quiet)
        if not dry_run and not share:
            write_bad(out, summary.bad)
            folder.seal(tables, summary.table(), len(summary.bad))
            if size:
                folder.drop_loose()
    finally:
        folder.release()
    return summary


def _packed(folder: PreparedFolder, summary: Prepared) -> bool:
    """Return whether an earlier run has written all tars; what it counted goes into the summary."""
    earlier = folder.earlier() or {}
    if not folder.complete or earlier.get("key") != folder.key:
        return False
    kinds: dict[str, type[Manifest | Pool]] = {Pool.FILE: Pool}
    kinds |= dict.fromkeys((Manifest.FILE, *TWINS), Manifest)
    tables = [kind.read(folder.path / name) for name, kind in kinds.items() if (folder.path / name).is_file()]
    named = [row.path if isinstance(row, PoolRow) else row.mixture or row.sources[0] for t in tables for row in t.rows]
    there = {name.rpartition(f"{tars.SUFFIX}/")[0] + tars.SUFFIX for name in named}
    if not all((folder.path / tar).is_file() for tar in there):
        return False
    for split in earlier.get("splits", ()):
        for column in ("mixtures", "utterances", "talkers"):
            getattr(summary, column)[split["split"]] = split[column]
        summary.seconds[split["split"]] = split["hours"] * 3600
    summary.kept = len(named)
    folder.drop_loose()
    return True


def _pack(
    tables: Sequence[Manifest | Pool], folder: PreparedFolder, size: int, summary: Prepared, quiet: bool
) -> list[Manifest | Pool]:
    packed, bad = pack.pack(tables, folder.path, size, quiet)
    summary.bad += bad
    if not packed[0].rows:
        raise BadInput(f"{show(folder.source)}: not one sound could be read; the first: {bad[0].reason}")
    if bad:
        summary.mixtures = packed[0].splits()
    return packed


def _list_only(
    adapter: Corpus, rows: list[Row], folder: PreparedFolder, summary: Prepared, overwrite: bool
) -> list[Manifest | Pool]:
    for row in rows:
        summary.mixtures[row.split] = summary.mixtures.get(row.split, 0) + 1
        seconds = row.frames / row.sample_rate if row.sample_rate else 0.0
        summary.seconds[row.split] = summary.seconds.get(row.split, 0.0) + seconds
    if not summary.dry_run:
        folder.claim(overwrite)
        adapter.keep(folder.path)
    return [Manifest(rows, folder.root, folder.path / Manifest.FILE)]
