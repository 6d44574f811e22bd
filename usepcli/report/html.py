"""Self-contained HTML pages: everything inline, nothing fetched, every text escaped.

A page carries its data as JSON in `<script type="application/json" id="data">`, and a content security policy (CSP
level 3) that lets run only the scripts that the page was made with, by their hashes, and forbids every connection.
"""

from __future__ import annotations

import base64
import hashlib
import html as _html
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from usepcli import files
from usepcli.audio import io
from usepcli.errors import OutputError

_ASSETS = "usepcli.report"
# An absolute path with a folder in it, where a word begins; "and/or", "./a" and "https://" are none.
_PATH = re.compile(r"(?<![\w.:/~-])~?/(?:[^/\s:;,'\"<>|()]+/)+[^/\s:;,'\"<>|()]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
# Sound and pictures live inside the page, or (media only) as files beside it; nothing else may be asked for.
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src 'self' data: blob: file:; base-uri 'none'; form-action 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="usep">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{body}
<script type="application/json" id="data">{data}</script>
{scripts}
"""
_END = "</body>\n</html>\n"


def page(
    title: str,
    body: str,
    *,
    data: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = ("player.js",),
    styles: Sequence[str] = ("page.css", "player.css"),
) -> str:
    """Return a complete document around `body`, which is HTML already; title and data are escaped here.

    `scripts` and `styles` name files of report/assets. `data` becomes JSON (NaN and infinities null) that the scripts
    find as `usep.data` or in the element of id `data`.
    """
    return "".join(pieces(title, body, data=data, scripts=scripts, styles=styles))


def pieces(
    title: str,
    body: str,
    *,
    data: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = ("player.js",),
    styles: Sequence[str] = ("page.css", "player.css"),
    texts: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Yield the document of `page` piece by piece, with base64 `texts` by the id of the element that holds each.

    They come last, so that a page is seen, and its scripts run, before the browser has read them. ValueError for a
    text that is no base64.
    """
    code = [asset(name) for name in scripts]
    hashes = " ".join(f"'sha256-{_digest(f'{chr(10)}{text}{chr(10)}')}'" for text in code) or "'none'"
    yield _PAGE.format(
        policy=_POLICY.format(scripts=hashes),
        title=escape(title),
        style="\n".join(asset(name) for name in styles),
        body=body,
        data=to_json(dict(data or {})),
        scripts="\n".join(f"<script>\n{text}\n</script>" for text in code),
    )
    for name, text in (texts or {}).items():
        if not _BASE64.fullmatch(text):
            raise ValueError(f"the text {name} is no base64")
        yield f'<script type="text/plain" id="{escape(name)}">'
        yield text
        yield "</script>\n"
    yield _END


def unplaced(text: str) -> str:
    """Return a text in which absolute paths have lost what tells of the machine: at most file and folder are left.

    A page is sent to others, and /home/NAME/... is nobody's affair.
    """
    return _PATH.sub(lambda found: _tail(found[0]), text)


def _tail(path: str) -> str:
    *above, folder, name = path.rstrip("/").split("/")
    if folder in ("home", "Users") and not any(above):
        return "~"
    # The folder right below /home is a person.
    owner = folder in ("", "~") or [part for part in above if part] in (["home"], ["Users"])
    return name if owner else f"{folder}/{name}"


def escape(text: object) -> str:
    """Return text that is safe between tags and inside quoted attributes; bytes that are no UTF-8 show as \\xNN."""
    return _html.escape(unplaced(io.show(str(text))))


def to_json(data: Any) -> str:
    """Return JSON that cannot end a script element; numbers that are not finite become null."""
    text = json.dumps(_plain(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return io.show(value) if isinstance(value, str | os.PathLike) else value


def asset(name: str) -> str:
    """Return the text of a style sheet or script of report/assets."""
    text = (resources.files(_ASSETS) / "assets" / name).read_text(encoding="utf-8").strip()
    if "</script" in text.lower() or "</style" in text.lower():
        raise ValueError(f"{name} would end its own element; write the tag in two pieces")
    return text


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def link(target: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """Return the relative URL of the file `target` as seen from a page in `folder`; any bytes in names survive."""
    near = os.path.relpath(os.path.realpath(target), os.path.realpath(folder))
    # `./` keeps a name such as `data:x` or `javascript:x` from being read as a scheme.
    return "./" + quote(os.fsencode(near.replace(os.sep, "/")))


def save(path: str | os.PathLike[str], text: str | Iterable[str], overwrite: bool = False) -> Path:
    """Write a page, whole or in pieces, in one step.

    OutputError if it exists, IOFault (and nothing left) if the disk is full.
    """
    out = Path(path)
    if not overwrite and os.path.lexists(out):
        raise OutputError(f"{io.show(out)}: exists already; choose another name or pass --overwrite")
    with files.whole(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines([text] if isinstance(text, str) else text)
    return out
