"""Pages: what is escaped, what the policy allows, and what a link survives."""

import base64
import hashlib
import json
import os
import re
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from usepcli.errors import OutputError
from usepcli.report import html

EVIL = "</script><img src=x onerror=alert(1)>&\"'"


def _data(page: str) -> object:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def test_title_and_data_are_escaped_and_come_back():
    page = html.page(EVIL, "<p>body</p>", data={"name": EVIL, "lone": "a\udcffb"})
    assert EVIL not in page
    assert "<title>&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#x27;</title>" in page
    assert _data(page) == {"name": EVIL, "lone": "a\\udcffb"}


def test_numbers_that_are_not_finite_become_null():
    values = [1.5, float("nan"), -float("inf"), np.float32(0.25), np.int64(3), True, None]
    assert json.loads(html.to_json({"v": values, "a": np.array([1, 2])})) == {
        "v": [1.5, None, None, 0.25, 3, True, None],
        "a": [1, 2],
    }


def test_policy_lets_run_only_the_scripts_of_the_page():
    page = html.page("x", "")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 1 and f"script-src 'sha256-{hashes[0]}';" in policy.group(1)
    assert policy.group(1).startswith("default-src 'none'") and "http" not in policy.group(1)
    assert "connect-src" not in policy.group(1)  # so the default, none, holds


def test_texts_come_last_and_are_base64_alone():
    parts = list(html.pieces("x", "<p>", data={"a": 1}, texts={"one": "QUJD", "two": "QQ=="}))
    page = "".join(parts)
    assert "".join(html.pieces("x", "<p>", data={"a": 1})) == html.page("x", "<p>", data={"a": 1})
    assert re.findall(r'<script type="text/plain" id="(.*?)">(.*?)</script>', page) == [
        ("one", "QUJD"),
        ("two", "QQ=="),
    ]
    assert page.index('id="data"') < page.rindex("usep.players") < page.index('id="one"') and "QUJD" in parts
    with pytest.raises(ValueError, match="text bad is no base64"):
        list(html.pieces("x", "", texts={"bad": "</script>"}))


def test_a_page_in_pieces_that_fails_half_way_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="no base64"):
        html.save(tmp_path / "x.html", html.pieces("x", "", texts={"bad": "<"}))
    assert not list(tmp_path.iterdir())


def test_nothing_of_the_page_points_outside():
    page = html.page("x", "")
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*['\"]?(?:https?:)?//", page)


@pytest.mark.parametrize(
    "name", ["a b.wav", "100%#?.wav", "javascript:alert(1).wav", "b\udcff.wav", "ünï.wav", "'\"<>.wav"]
)
def test_links_lead_to_files_of_any_name(tmp_path: Path, name: str):
    link = html.link(tmp_path / "deep" / name, tmp_path / "pages")
    assert link.startswith("./../deep/") and link.isascii() and not set(link) & set("\"'<> #?")
    assert urllib.parse.unquote_to_bytes(link[len("./../deep/") :]) == os.fsencode(name)


def test_save_replaces_only_what_it_may(tmp_path: Path):
    path = tmp_path / "new" / "page.html"
    html.save(path, "one")
    with pytest.raises(OutputError, match="exists already"):
        html.save(path, "two")
    assert path.read_text() == "one"
    html.save(path, "two", overwrite=True)
    assert path.read_text() == "two" and [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_an_asset_that_would_end_its_element_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "x = '</SCRIPT>'")
    with pytest.raises(ValueError, match="two pieces"):
        html.asset("player.js")


def test_a_name_as_long_as_names_can_be_and_a_folder_that_is_none(tmp_path: Path):
    assert html.save(tmp_path / f"{'x' * 250}.html", "page").read_text() == "page"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        html.save(tmp_path / "file" / "page.html", "page")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/alice/two/manifest.csv", "two/manifest.csv"),
        ("/home/alice/x.wav: unreadable", "x.wav: unreadable"),
        ("/Users/bob", "~"),
        ("~/talks/a.wav, /data/deep/er/b.wav", "talks/a.wav, er/b.wav"),
        ("(/srv/x/y.wav)", "(x/y.wav)"),
        ("and/or, 3/4, ./sub/a.html, https://host/a/b/c", "and/or, 3/4, ./sub/a.html, https://host/a/b/c"),
    ],
)
def test_a_page_tells_no_path_of_the_machine(text: str, shown: str) -> None:
    assert html.unplaced(text) == shown
    assert html.escape(text) == shown
