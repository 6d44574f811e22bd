"""Models from the Hub or a folder of its layout into a folder of models, those of other makers as models of usep.

Files are fetched one by one as they are asked for, those of one commit; each is compared with the sha256 that the Hub
states for it before anything reads it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from usepcli import files
from usepcli.engine.exchange import foreign, foreign_tower, hub
from usepcli.engine.exchange.foreign import Words
from usepcli.engine.exchange.foreign_parts import Stated
from usepcli.engine.exchange.foreign_source import Source, listed
from usepcli.errors import BadInput, InputNotFound, OutputError, UsageError
from usepcli.weights import cards, public, reach

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SMALL = (".json", ".yaml", ".yml", ".md", ".txt")


def pull(
    repo: str, *, file: str = "", sha256: str = "", name: str = "", licence: str = "", licence_weights: str = "",
    licence_code: str = "", training_data: str = "", sample_rate: int = 0, text_encoder: str = "",
    fit_level: bool = False, out: Path | None = None, overwrite: bool = False, token_env: str = "HF_TOKEN",
    quiet: bool = False, say: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """Fetch a model into a folder of models and return what was fetched, which is kept in a .json beside it.

    A checkpoint of another maker becomes a model file of usep on the way; licences, data, rate, text_encoder and
    fit_level are said of such a one, as for `usep import`.  repo: as `hub.place` reads it, or a name of the public
    table.  file: the only one to look at, '' for what the folder holds.  sha256: of the file of weights, as hex.  out:
    the cache by default.  quiet: no bars of progress.  BadInput if the file is not what was stated or no model; then
    nothing stays.
    """
    row = public.named(repo)
    source, folder = hub.place(row.repo if row else repo), out or reach.cache()
    name = name or source.name
    if not hub.NAME.fullmatch(name):
        raise UsageError(f"--name {name}: expected letters, digits, '.', '_' and '-'")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise UsageError(f"--sha256 {sha256}: expected 64 hexadecimal digits")
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        raise UsageError(f"--file {file}: expected a file inside the repository")
    home = folder / (name + reach.SUFFIX)
    with hub.aside(folder, "pull", folder) as temporary:
        opened = _opened(source, file, temporary, token_env, quiet)
        wanted = file or hub.WEIGHTS
        if _is_own(opened.source, wanted):
            got, facts = opened.source.path(wanted), opened.own(wanted, sha256)
            _loads(got, f"{repo}: {wanted}")
            if source.folder:  # the file in the folder stays where it is
                got = Path(shutil.copyfile(got, temporary / "copy"))
        else:
            got, words = temporary / "converted.safetensors", Words(
                name, licence, training_data, licence_code, licence_weights
            )  # fmt: skip
            stated = Stated(sample_rate, text=text_encoder)
            facts = opened.converted(got, home, words, stated, fit_level, sha256, say)
        facts |= {"name": name, "path": str(home)}
        return facts | {"state": _placed(got, facts, overwrite)}


@dataclass
class _Opened:
    """A repository at one commit, or a folder: its files, and what is recorded of it."""

    source: Source
    facts: dict[str, Any]

    def own(self, file: str, sha256: str) -> dict[str, Any]:
        """Return the facts of a model file of usep; BadInput if its sum is not the one asked for."""
        path = self.source.path(file)
        found = files.sha256(path)
        self._compare(file, found, sha256)
        return self.facts | {"file": file, "sha256": found, "bytes": path.stat().st_size}

    def converted(
        self, out: Path, home: Path, words: Words, stated: Stated, fit_level: bool, sha256: str,
        say: Callable[[str], None],
    ) -> dict[str, Any]:  # fmt: skip
        """Write a checkpoint of another maker to `out`, from where it goes to `home`, and return the facts of it.

        Errors as for `import_model`.
        """
        where = self.source.where
        row = public.of(self.facts["repo"])
        told = row.words() if row else {}
        done = foreign.convert(
            self.source, out, "", stated, words, fit_level, Words(**told), row.scores() if row else [], home
        )
        weights = {name: files.sha256(self.source.path(name)) for name in self.source.opened}
        if sha256 and len(weights) > 1:
            raise UsageError(
                f"{where}: {len(weights)} files of weights, and --sha256 is of one; pin them all by a revision instead"
            )
        for name, found in weights.items():
            self._compare(name, found, sha256)
        for note in done.notes:
            say(f"usep: note: {where}: {note}")
        if barred := cards.barred(done.card):
            say(f"usep: note: {where}: {barred}")
        return self.facts | {
            "file": ", ".join(weights), "sha256": files.sha256(out), "bytes": out.stat().st_size, "files": weights,
            "origin": done.card.origin, "architecture": done.card.model["name"], "outputs": done.card.n_src,
            "sample_rate": done.card.sample_rate, "training_data": done.card.training_data,
            "licence": done.card.licence, "licences": done.card.licences,
        }  # fmt: skip

    def _compare(self, file: str, found: str, sha256: str) -> None:
        if sha256 and found != sha256.lower():
            where = self.source.where
            raise BadInput(f"{where}: sha256 of {file} is {found}, --sha256 says {sha256.lower()}; nothing is kept")


def _opened(place: hub.Place, file: str, temporary: Path, token_env: str, quiet: bool) -> _Opened:
    """Return what is to be had; InputNotFound where `file` is not among it."""
    if place.folder is None:
        return _at_hub(place, file, temporary, token_env, quiet)
    folder = place.folder
    if not folder.is_dir():
        raise InputNotFound(f"{folder}: no such folder; a single file of weights is taken by usep import")
    names = listed(folder)
    if file and file not in names:
        raise InputNotFound(f"{folder / file}: no such file; a model folder of the Hub's layout holds {hub.WEIGHTS}")
    source = Source(str(folder), [file] if file else names, lambda name: folder / name)
    return _Opened(source, {"repo": str(folder.resolve()), "revision": ""})


def _at_hub(place: hub.Place, file: str, temporary: Path, token_env: str, quiet: bool) -> _Opened:
    """Ask the Hub for one commit and its files."""
    library = hub.library(quiet)
    at = f"{place.repo}@{place.revision or 'main'}"
    with hub.explained(at, file):
        api = library.HfApi(token=hub.token(token_env), library_name="usep")
        found = api.model_info(place.repo, revision=place.revision or None, files_metadata=True)
    sums = {one.rfilename: (one.lfs.sha256 if one.lfs else "") or "" for one in found.siblings or ()}
    if file and file not in sums:
        there = [name for name in sums if not name.endswith(_SMALL) and not name.startswith(".")]
        raise InputNotFound(f"{at}: no {file} in it; --file takes one of: {', '.join(there) or 'none, no model'}")

    def fetch(name: str) -> Path:
        with hub.explained(at, name):
            got = Path(api.hf_hub_download(place.repo, name, revision=found.sha, local_dir=temporary / "hub"))
        if sums[name] and (sha := files.sha256(got)) != sums[name]:
            raise BadInput(f"{at}: sha256 of {name} is {sha}, the Hub says {sums[name]}; nothing is kept")
        return got

    names = [file] if file else sorted(sums, key=lambda name: (name.count("/"), name))
    return _Opened(Source(at, names, fetch), {"repo": place.repo, "revision": found.sha})


def _is_own(source: Source, file: str) -> bool:
    """Return whether a file is a model file of usep; BadInput for a safetensors file that cannot be read."""
    if file not in source.names or not file.endswith(reach.SUFFIX):
        return False
    path = source.path(file)
    try:
        with safe_open(path, framework="np") as held:
            return "usep" in (held.metadata() or {})
    except SafetensorError as fault:
        said = cards.what_instead(path) or fault
        raise BadInput(f"{source.at(file)}: not a readable model file ({said}); nothing is kept") from fault


def _loads(got: Path, where: str) -> None:
    """Build the model in a fetched file; BadInput, with where it came from, if it does not fit its card."""
    from usepcli.weights import store

    try:
        store.load_any(got)
    except BadInput as fault:
        raise BadInput(f"{str(fault).replace(str(got), where)}; nothing is kept") from fault


def _placed(got: Path, facts: dict[str, Any], overwrite: bool) -> str:
    """Write the record of a checked file and move it under its name; return 'new', 'the same' or 'replaced'."""
    path, state = Path(facts["path"]), "new"
    beside = path.with_suffix(".json")
    if path.exists():
        state = "the same" if _alike(path, got, facts["sha256"]) else "replaced"
        if state == "replaced" and not overwrite:
            raise OutputError(f"{path}: holds another model; choose another --name or pass --overwrite")
    if beside.exists() and not overwrite and not _is_record(path):
        raise OutputError(f"{beside}: is no record of usep pull; choose another --name or pass --overwrite")
    stated: dict[str, Any] = {
        key: facts[key] for key in ("repo", "revision", "file", "files", "sha256", "bytes") if key in facts
    }
    stated["pulled_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    if (tower := foreign_tower.beside(got)).is_dir():
        foreign_tower.moved(tower, foreign_tower.beside(path), overwrite)
    # The model comes last: where it stands, its record stands too.
    files.write_bytes(beside, (json.dumps(stated, indent=1) + "\n").encode())
    files.place(got, path)
    return state


def _alike(path: Path, got: Path, sha256: str) -> bool:
    """Return whether two files hold one model. One that was converted twice has its header in another order."""
    if files.sha256(path) == sha256:
        return True
    try:
        there, here = cards.read_header(path), cards.read_header(got)
    except BadInput:
        return False
    return (there.card, there.sha256) == (here.card, here.sha256)


def _is_record(path: Path) -> bool:
    try:
        return bool(hub.record(path))
    except BadInput:
        return False
