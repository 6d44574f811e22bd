"""The page of a listening test in a real browser: hear, seek, answer by key and by click, save, and be counted."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.engine.scoring import listening
from usepcli.engine.scoring.scoring import Signals
from usepcli.engine.scoring.systems import System
from usepcli.report import listening as pages

RATE = 8000


def system(name: str) -> System:
    def signals(item: str) -> Signals:
        time_s = np.arange(2 * RATE) / RATE
        ref = np.stack([np.sin(2 * np.pi * hz * time_s) * 0.1 for hz in (300, 900)]).astype(np.float32)
        return Signals(item, ("alto", "bass"), 0.5 * ref, ref, ref.sum(0), rate=RATE)

    return System(name, {f"hidden-item{k}": 2 for k in range(4)}, signals)


def make_test(folder: Path, kind: str, *names: str) -> list[dict[str, Any]]:
    drawn = list(listening.trials([system(name) for name in names], kind, 4, seed=5))
    entries = [pages.entry(trial.key["trial"], trial.sounds) for trial in drawn]
    test, entries, keys = listening.arrange(entries, [trial.key for trial in drawn], seed=5)
    listening.write(folder, keys, pages.page(test, kind, entries))
    return keys


def begin(browser: Any, folder: Path, name: str = "Ann, the first") -> None:
    browser.open(folder / "test.html")
    # All pages from disk share one store, and equal tests have equal names.
    browser.js("localStorage.clear()")
    browser.driver.refresh()
    assert browser.js("document.getElementById('trial').hidden")
    browser.click("#listener")
    browser.keys(name)
    browser.click("#begin")
    browser.wait("!document.getElementById('trial').hidden")


def progress(browser: Any) -> str:
    return str(browser.js("document.getElementById('progress').textContent"))


def playing(browser: Any, role: str) -> bool:
    return bool(browser.js(f"document.querySelector('[data-role={role}]').getAttribute('aria-pressed') === 'true'"))


def hear(browser: Any, *roles: str) -> None:
    for role in roles:
        browser.keys(role)
        browser.wait(f"document.querySelector('[data-role={role}]').classList.contains('heard')")


def test_a_key_held_down_answers_one_question(browser: Any, tmp_path: Path) -> None:
    make_test(tmp_path, "which", "held-net")
    begin(browser, tmp_path, "Eve")
    for _ in range(4):
        hear(browser, "x")
        browser.keys("1")
    browser.wait("!document.getElementById('done').hidden")
    browser.click("#again")
    for _ in range(3):
        browser.click("#back")
    assert progress(browser) == "Question 1 of 4, 4 answered"
    # All were heard before, so that nothing else would stop the repeats.
    for repeat in ("false", "true", "true"):
        browser.js(
            f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: '2', repeat: {repeat}, bubbles: true}}))"
        )
    assert progress(browser) == "Question 2 of 4, 4 answered"


def answers(browser: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(browser.js("document.getElementById('csv').value"))))


def test_hear_seek_answer_save_and_be_counted(
    browser: Any,
    tmp_path: Path,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = make_test(tmp_path, "which", "net")
    own = ["A" if key["a"] == key["source"] else "B" for key in keys]
    begin(browser, tmp_path)
    # Nothing is answered before it was heard.
    browser.keys("1")
    assert progress(browser) == "Question 1 of 4, 0 answered"
    assert browser.js("document.getElementById('hint').textContent") == "Play the sound first."
    # As slowly as Chromium can: two seconds last for half a minute, and none ends before it was looked at.
    browser.js(
        "(play => { HTMLMediaElement.prototype.play = function () {"
        "this.playbackRate = 1 / 16; return play.call(this); }; return 1; })(HTMLMediaElement.prototype.play)"
    )
    browser.keys(" ")
    browser.wait("document.querySelector('[data-role=x]').getAttribute('aria-pressed') === 'true'")
    browser.wait("parseFloat(document.getElementById('clock').textContent) > 0.1")
    browser.click("#seek", x=0.6)
    assert 1.1 < float(browser.js("document.getElementById('seek').value")) < 2
    browser.keys("a")  # another sound goes on where the last one was
    browser.wait("document.querySelector('[data-role=a]').getAttribute('aria-pressed') === 'true'")
    assert not playing(browser, "x")
    browser.keys(" ")  # space belongs to the sound that plays
    browser.wait("document.querySelector('[data-role=a]').getAttribute('aria-pressed') === 'false'")
    assert float(browser.js("document.getElementById('seek').value")) > 0.6
    browser.keys("1" if own[0] == "A" else "2")
    assert progress(browser) == "Question 2 of 4, 1 answered"
    # By click, first wrongly, then corrected after the way back.
    browser.click("[data-role=x]")
    browser.wait("!document.querySelector('[data-answer=A]').disabled")
    browser.click(f"[data-answer={'B' if own[1] == 'A' else 'A'}]")
    browser.click("#back")
    assert progress(browser) == "Question 2 of 4, 2 answered"
    browser.click(f"[data-answer={own[1]}]")
    # A page that is closed and opened again goes on where it was.
    browser.driver.refresh()
    assert progress(browser) == "Question 3 of 4, 2 answered"
    hear(browser, "x")
    browser.keys("3")
    hear(browser, "x")
    browser.keys("4")
    browser.wait("!document.getElementById('done').hidden")
    given = answers(browser)
    assert [row["answer"] for row in given] == [own[0], own[1], "both", "neither"]
    assert {row["listener"] for row in given} == {"Ann, the first"}
    saved = save(browser, tmp_path, until)
    assert saved.name == "answers_Ann_the_first.csv"
    browser.quiet()
    monkeypatch.setattr(sys, "argv", ["usep", "listen", "score", str(saved), "--json"])
    from usepcli.cli.app import main

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code in (0, None)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["outcome"]: row["count"] for row in rows} == {"correct": 2, "wrong": 0, "both": 1, "none": 1}
    assert (tmp_path / "listening.csv").exists()


def save(browser: Any, folder: Path, until: Callable[..., Any]) -> Path:
    where = {"behavior": "allow", "downloadPath": str(folder)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    browser.click("#save")
    found = until(lambda: list(folder.glob("answers_*.csv")), "the answers were saved")
    assert found[0].read_text() == browser.js("document.getElementById('csv').value")
    return found[0]


def test_preferences_need_both_to_be_heard_and_names_stay_hidden(browser: Any, tmp_path: Path) -> None:
    keys = make_test(tmp_path, "preference", "old-net", "new-net")
    text = re.sub(r"data:audio[^\"]+", "", (tmp_path / "test.html").read_text())
    told = {"old-net", "new-net", "alto", "bass", *(key["item"] for key in keys)}
    assert not [name for name in told if name in text]
    begin(browser, tmp_path, "Bob")
    hear(browser, "a")
    browser.keys("1")
    assert progress(browser) == "Question 1 of 4, 0 answered"
    for number in range(4):
        hear(browser, "a", "b")
        browser.keys("3" if number else "1")
    browser.wait("!document.getElementById('done').hidden")
    assert [row["answer"] for row in answers(browser)] == ["A", "same", "same", "same"]
    assert "All questions are answered" in browser.js("document.getElementById('missing').textContent")
    browser.quiet()


def test_a_name_is_asked_for_and_unanswered_questions_are_counted(browser: Any, tmp_path: Path) -> None:
    make_test(tmp_path, "which", "third-net")
    browser.open(tmp_path / "test.html")
    browser.js("localStorage.clear()")
    browser.driver.refresh()
    browser.click("#begin")
    assert browser.js("document.getElementById('trial').hidden")
    begin(browser, tmp_path, "<b>Eve</b>")
    assert browser.js("document.getElementById('skip').disabled")
    hear(browser, "x")
    browser.keys("2")
    browser.js("[...Array(3)].forEach(() => { document.getElementById('skip').disabled = false; "
               "document.getElementById('skip').click(); })")  # fmt: skip
    browser.wait("!document.getElementById('done').hidden")
    assert browser.js("document.getElementById('missing').textContent") == "3 questions have no answer yet."
    assert answers(browser)[0]["listener"] == "<b>Eve</b>"
    browser.click("#again")
    assert progress(browser) == "Question 2 of 4, 1 answered"


def test_in_words_the_answers_bear_the_names_of_each_question(browser: Any, tmp_path: Path) -> None:
    def worded(item: str) -> Signals:
        return system("net").read(item)._replace(ordered=True)

    names = {f"hidden-item{k}": (f"The sound of <b>{k}</b>", 'a "dog" barks; ' + "very " * 30) for k in range(2)}
    drawn = list(listening.trials([System("net", dict.fromkeys(names, 2), worded, names)], "words", 2, seed=1))
    entries = [pages.entry(trial.key["trial"], trial.sounds, trial.words) for trial in drawn]
    test, entries, keys = listening.arrange(entries, [trial.key for trial in drawn], seed=1)
    listening.write(tmp_path, keys, pages.page(test, "words", entries))
    begin(browser, tmp_path)
    for key in keys:
        shown = browser.js("[...document.querySelectorAll('#answers span')].map(one => one.textContent)")
        assert shown == [f"A: {key['a_words']}", f"B: {key['b_words']}", "Both", "None of them"]
        assert browser.js("document.querySelectorAll('#sounds button').length") == 1
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert browser.js(wide), "a long name stays within the page"
        hear(browser, "x")
        browser.keys("1" if key["a"] == key["source"] else "2")
    browser.wait("!document.getElementById('done').hidden")
    assert [row["answer"] for row in answers(browser)] == ["A" if key["a"] == key["source"] else "B" for key in keys]
