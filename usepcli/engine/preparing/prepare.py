"""From recordings on disk to manifest.csv, pool.csv and prepare.json: what `usep prepare-data` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from usepcli import registry
from usepcli.audio.io import show
from usepcli.data.corpora.base import Corpus
from usepcli.data.corpora.cutter import Cutter
from usepcli.data.corpora.maker import Maker
from usepcli.data.manifest import Manifest, Pool, Row
from usepcli.engine.preparing.cut import cut
from usepcli.engine.preparing.make_mixtures import Pools, make
from usepcli.engine.preparing.prepared import Prepared
from usepcli.engine.preparing.prepared_folder import PreparedFolder, write_bad
from usepcli.errors import BadInput, ConfigError, InputNotFound, did_you_mean
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
) -> Prepared:
    """Write the tables of the corpus under `source` (and the audio, where mixtures are made) into the folder `out`.

    Safe to stop and to call again: what is finished stays. InputNotFound or BadInput when the source does not
    hold such a corpus, ConfigError for a wrong option, OutputError when `out` holds something else and not
    `overwrite`.
    """
    source, out = Path(source), Path(out)
    if not source.exists():
        raise InputNotFound(f"{show(source)}: no such file or folder")
    adapter, settings = bind(corpus, options or {})
    summary = Prepared(out, corpus, dry_run=dry_run)
    fill: Callable[..., Sequence[Manifest | Pool]]
    if isinstance(adapter, Maker):
        summary.remarks += adapter.remarks()
        pools = Pools(adapter.scan(source), *adapter.scan_noise(source))
        folder = PreparedFolder(out, source, corpus, settings, [*pools.rows, *(() if adapter.noise else pools.noise)])
        fill = partial(make, adapter, pools, workers=workers, quiet=quiet)
    elif isinstance(adapter, Cutter):
        jobs = adapter.jobs(source)
        if not jobs:
            raise BadInput(f"{show(source)}: nothing of corpus '{corpus}' was found there")
        folder = PreparedFolder(out, source, corpus, settings, jobs)
        summary.bad += adapter.bad
        fill = partial(cut, jobs, workers=workers, quiet=quiet)
    else:
        rows = [row for row in adapter.scan(source) if isinstance(row, Row)]
        if not rows:
            raise BadInput(f"{show(source)}: nothing of corpus '{corpus}' was found there")
        folder = PreparedFolder(out, source, corpus, settings, rows)
        summary.bad = adapter.bad
        summary.remarks += adapter.remarks()
        fill = partial(_list_only, rows)
    try:
        tables = fill(folder=folder, summary=summary, overwrite=overwrite)
        if not dry_run:
            write_bad(out, summary.bad)
            folder.seal(tables, summary.table(), len(summary.bad))
    finally:
        folder.release()
    return summary


def _list_only(rows: list[Row], folder: PreparedFolder, summary: Prepared, overwrite: bool) -> list[Manifest | Pool]:
    for row in rows:
        summary.mixtures[row.split] = summary.mixtures.get(row.split, 0) + 1
        seconds = row.frames / row.sample_rate if row.sample_rate else 0.0
        summary.seconds[row.split] = summary.seconds.get(row.split, 0.0) + seconds
    if not summary.dry_run:
        folder.claim(overwrite)
    return [Manifest(rows, folder.root, folder.path / Manifest.FILE)]
