"""Models from and to the Hugging Face Hub, or a local folder of the same layout.

The layout is model.safetensors with the card inside, config.json with the same card, and README.md whose head tells
the Hub what the model is. A pull without a revision asks once which commit the branch stands at, and fetches that
commit; what came is compared with the sha256 that the Hub states, with the one that the user states, and with the one
inside the file. Nothing is unpickled, and no code of a repository is run.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usepcli import files, stops
from usepcli.errors import BadInput, InputNotFound, IOFault, UsageError
from usepcli.versions import need

WEIGHTS = "model.safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Place:
    """A repository of the Hub at a revision ('' for its main branch), or a local folder."""

    repo: str
    revision: str = ""
    folder: Path | None = None

    @property
    def name(self) -> str:
        """The last part, by which the model goes unless another name is asked for."""
        return self.folder.resolve().name if self.folder else self.repo.split("/")[1]


def place(ref: str) -> Place:
    """Read OWNER/NAME, OWNER/NAME@REVISION, or a path that starts with . or /; UsageError for anything else.

    OWNER/NAME whose first part is a folder here could mean either, and is refused: a slip must not reach the network.
    """
    if ref.startswith((".", "/", "~")):
        return Place(ref, folder=Path(ref).expanduser())
    repo, _, revision = ref.partition("@")
    if not _REPO.fullmatch(repo) or ("@" in ref and not revision):
        raise UsageError(f"'{ref}': expected OWNER/NAME or OWNER/NAME@REVISION of the Hub, or a folder as ./folder")
    if not revision and Path(repo).parent.is_dir():
        raise UsageError(
            f"'{ref}': {repo.split('/')[0]} is a folder here; write ./{repo} for the folder, or {repo}@main for the Hub"
        )
    return Place(repo, "" if revision == "main" else revision)


def library(quiet: bool = False) -> Any:
    """Import huggingface_hub, without its bars if quiet.

    MissingDependency where it is absent, InputNotFound where HF_HUB_OFFLINE forbids to ask.
    """
    huggingface_hub = need("the Hub (a ./folder takes nothing more)", "hub")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputNotFound("HF_HUB_OFFLINE is set, so the Hub is not asked; unset it, or use a folder as ./folder")
    if quiet:
        huggingface_hub.utils.disable_progress_bars()
    return huggingface_hub


def token(variable: str) -> str | bool:
    """Return the token in an environment variable, or False: nothing stored elsewhere is used."""
    return os.environ.get(variable) or False


def record(path: Path) -> dict[str, Any]:
    """Return the record beside a pulled model, {} for any other; BadInput if it is not readable."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return {}
    try:
        found = files.read_json(beside)
    except (OSError, ValueError) as fault:
        raise BadInput(f"{beside}: not a record of usep pull ({fault})") from fault
    return found if isinstance(found, dict) and found.keys() >= {"repo", "revision", "sha256"} else {}


@contextmanager
def explained(at: str, file: str = "") -> Iterator[None]:
    """Turn what the Hub's client raises into one line with the place."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.GatedRepoError) as fault:
        raise InputNotFound(
            f"{at}: no such repository, or not open to you; a token is taken from --token-env"
        ) from fault
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as fault:
        raise InputNotFound(f"{at}: no such revision or file {file}") from fault
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as fault:
        raise IOFault(f"{at}: {(str(fault).strip().splitlines() or [type(fault).__name__])[0]}") from fault
    except Exception as fault:
        # The client's network library is its own choice, and with it the class of "no connection".
        if type(fault).__module__.split(".")[0] not in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "requests",
            "urllib3",
        ):
            raise
        raise IOFault(f"{at}: the Hub cannot be reached ({fault})") from fault


@contextmanager
def aside(folder: Path, name: str, wanted: Path) -> Iterator[Path]:
    """Give a folder .NAME.tmp.* in `folder` for what is not yet complete and checked, and remove it afterwards.

    OutputError, with the path `wanted`, where it cannot be made; IOFault where the disk refuses what goes into it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(files.folder_for(folder))
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}.tmp.", dir=folder))
            stops.passing(temporary)
        except OSError as fault:
            raise files.refused(wanted, fault) from fault
        try:
            yield temporary
        except OSError as err:
            # A full disk has no name to tell; other places, such as an unreadable input, speak for themselves.
            if err.filename is not None and not Path(os.fsdecode(err.filename)).is_relative_to(temporary):
                raise
            raise files.fault(wanted, err) from err
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
