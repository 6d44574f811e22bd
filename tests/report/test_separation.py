"""The page of a separation in a real browser: it plays, seeks and switches at the same moment, from disk alone."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from usepcli.report import html, listen, streamed
from usepcli.report.separation import (
    DRAWN,
    Entry,
    Lane,
    Seam,
    Separated,
    decibel,
    index_page,
    null,
    separation_page,
)  # fmt: skip

RATE, SECONDS = 8000, 6.0
EVIL = "<img src=x onerror=alert(1)>.wav"
KINDS = {"Mixture": "mixture", "Source 1": "source", "Source 2": "source"}


def _waves() -> list[np.ndarray]:
    time = np.arange(round(RATE * SECONDS)) / RATE
    parts = [
        0.3 * np.sin(2 * np.pi * f * time) * (np.sin(2 * np.pi * s * time) > 0) for f, s in ((300, 0.5), (900, 0.3))
    ]
    codes = [np.rint(part * 32768) / 32768 for part in parts]
    return [codes[0] + codes[1], *codes]


def _page(sources: Callable[[str, np.ndarray], str], sound: str = "inside") -> str:
    tracks = [
        Lane(
            name=name, kind=kind, src=sources(name, wave), picture=listen.picture(wave, RATE), lufs=-23.0, peak=0.3,
            activity=0.5, file=EVIL, link="./x.wav",
        )
        for (name, kind), wave in zip(KINDS.items(), _waves(), strict=True)
    ]  # fmt: skip
    joins = [Seam(2.0, (0, 1), 0.97, False), Seam(4.0, (1, 0), 0.2, False), Seam(5.0, (1, 0), 0.3, True)]
    what = Separated(
        name=EVIL, lead="6 s", duration_s=SECONDS, rate=RATE, tracks=tracks, joins=joins, sound=sound,
        facts=[("Null", "−140 dB")], settings=[("model", EVIL)], notices=[EVIL], version="1",
    )  # fmt: skip
    return "".join(separation_page(what))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return html.save(tmp_path_factory.mktemp("page") / EVIL, _page(lambda _, wave: listen.encode(wave, RATE)))


@pytest.fixture
def named(page: Path) -> Path:
    # The browser takes a page by its suffix.
    return html.save(page.with_suffix(".html"), page.read_text(encoding="utf-8"), overwrite=True)


def _state(browser: Any) -> dict[str, Any]:
    return browser.js("(p => ({time: p.time, playing: p.playing, hearing: p.hearing}))(usep.players[0])")


def test_levels_as_text():
    assert [decibel(x) for x in (-1.26, -0.01, 0.0, -math.inf, math.nan)] == [
        "−1.3\xa0dB", "0.0\xa0dB", "0.0\xa0dB", "−∞\xa0dB", "not measured",
    ]  # fmt: skip
    assert [null(x) for x in (-math.inf, -140.0)] == ["exact", "−140.0\xa0dB"]


def test_what_the_page_says_of_its_pictures_is_what_is_drawn():
    script = html.asset("player.js")
    levels = re.search(r"RANGE_DB = (\d+), ACTIVE_DB = (\d+)", script)
    assert levels and f"down to {levels[1]} dB below the loudest band" in DRAWN
    assert f"down to {levels[2]} dB below the loudest moment" in DRAWN
    assert DRAWN in _page(lambda name, wave: "")


def test_names_are_text_and_doubtful_seams_stand_out(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text and text.count(html.escape(EVIL)) >= 5
    assert "3 seams between chunks, 1 of them doubtful" in text
    assert text.count("listen here") == 1 and text.count("in a pause") == 1 and "2 1 (changed)" in text


def test_plays_seeks_and_switches_at_the_same_moment(browser: Any, named: Path):
    browser.open(named)
    assert browser.js("document.querySelector('h1').textContent") == EVIL
    assert _state(browser) == {"time": 0, "playing": False, "hearing": ["Mixture"]}
    browser.click(".play")
    browser.wait("usep.players[0].time > 0.2")
    browser.hold(0, 0.5)
    browser.js("usep.players[0].choose([1]) || 1")
    assert _state(browser) == {"time": 0.5, "playing": True, "hearing": ["Source 1"]}
    browser.keys("2")
    assert _state(browser) == {"time": 0.5, "playing": True, "hearing": ["Source 2"]}
    browser.click(".lane:nth-child(3) .stage", 0.75)
    assert 4.4 < _state(browser)["time"] < 4.6 and _state(browser)["playing"]
    browser.keys(" ")
    paused = _state(browser)
    assert not paused["playing"] and browser.js("usep.players[0].time") == paused["time"]
    browser.keys("0")
    assert _state(browser) == {**paused, "hearing": ["Mixture"]}
    browser.quiet()


def test_all_keys(browser: Any, named: Path):
    from selenium.webdriver.common.keys import Keys

    browser.open(named)
    browser.keys("s")
    assert _state(browser)["hearing"] == ["Source 1", "Source 2"]
    browser.keys("m")
    assert _state(browser)["hearing"] == ["Mixture"]
    browser.keys("n", "n")
    assert _state(browser)["time"] == 4.0
    browser.keys("p", Keys.ARROW_RIGHT)
    assert _state(browser)["time"] == pytest.approx(2.25)
    browser.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert _state(browser)["time"] == pytest.approx(1.75)
    browser.keys("+")
    assert browser.js("usep.players[0].view.to - usep.players[0].view.from") == pytest.approx(SECONDS / 2)
    browser.keys("-", Keys.END)
    assert _state(browser)["time"] == SECONDS
    assert browser.js("document.querySelector('.ruler').getAttribute('aria-valuenow')") == "6.0"
    browser.keys("?")
    assert browser.js("document.querySelector('dialog').open")
    browser.keys(Keys.ESCAPE)
    assert not browser.js("document.querySelector('dialog').open")
    browser.quiet()


def test_a_changed_mind_while_the_sound_is_decoded(browser: Any, named: Path, starts: str):
    # A slow decoder: what is asked for last holds, and nothing starts behind the listener's back.
    slow = (
        "const decode = AudioContext.prototype.decodeAudioData;"
        "AudioContext.prototype.decodeAudioData = async function (data) {"
        "await new Promise((go) => setTimeout(go, 300)); return decode.call(this, data); };"
    )
    browser.open(named, before=slow + starts)
    browser.keys(" ", " ")
    browser.wait("usep.players[0].sound.buffers && !usep.players[0].host.classList.contains('busy')")
    assert not _state(browser)["playing"] and browser.js("window.starts") == []
    browser.open(named, before=slow + starts)
    browser.js("usep.players[0].toggle() && usep.players[0].seek(3) || 1")
    browser.wait("window.starts.length")
    assert browser.js("window.starts") == [3, 3, 3]
    browser.quiet()


def test_tracks_are_aligned_and_add_up_to_the_sample(browser: Any, named: Path):
    browser.open(named)
    browser.click(".play")
    browser.wait("usep.players[0].sound.buffers")
    waves = browser.js("usep.players[0].sound.buffers.map(b => Array.from(b.getChannelData(0)))")
    mixture, *parts = (np.array(wave) for wave in waves)
    # Chromium divides positive codes by 32767 and negative ones by 32768: less than one code.
    assert len(mixture) == RATE * SECONDS and np.abs(mixture - sum(parts)).max() < 1 / 32768


def test_mute_and_the_end(browser: Any, named: Path, starts: str):
    browser.open(named, before=starts)
    browser.click(".lane:nth-child(4) input")
    assert _state(browser)["hearing"] == ["Mixture", "Source 2"]
    browser.click(".lane:nth-child(2) input")
    assert _state(browser)["hearing"] == ["Source 2"]
    browser.click("tbody tr:nth-child(2) [data-seek]")
    assert _state(browser)["time"] == 4.0
    browser.js("usep.players[0].seek(5.8) || 1")
    browser.click(".play")
    browser.wait("!usep.players[0].playing && usep.players[0].time > 5.9")
    browser.click(".play")  # from the beginning again
    browser.wait("window.starts.length === 6")
    assert browser.js("window.starts") == [5.8] * 3 + [0] * 3
    browser.wait("usep.players[0].time > 0.1")
    browser.quiet()


def test_long_recordings_play_the_files_beside_the_page(browser: Any, tmp_path: Path):
    def beside(name: str, wave: np.ndarray) -> str:
        sf.write(tmp_path / f"{name} #1.wav", wave, RATE)
        return html.link(tmp_path / f"{name} #1.wav", tmp_path)

    page = html.save(tmp_path / "report.html", _page(beside, sound="linked"))
    browser.open(page)
    browser.click(".play")
    browser.hold_media(0.8)
    browser.keys("1")
    assert _state(browser)["hearing"] == ["Source 1"] and _state(browser)["time"] < 4
    assert browser.js("usep.players[0].sound.media.map(m => m.muted)") == [True, False, True]
    browser.click(".lane:nth-child(2) .stage", 0.5)
    assert 2.9 < _state(browser)["time"] < 4.5
    browser.quiet()


def _streamed(name: str, wave: np.ndarray) -> str:
    encoder = streamed.Encoder(RATE, 1, streamed.Coding(RATE, 1, 24))
    encoder.push(np.atleast_2d(wave))
    return encoder.finish()


def test_long_recordings_are_inside_the_page_as_streams(browser: Any, tmp_path: Path):
    browser.open(html.save(tmp_path / "report.html", _page(_streamed, "streamed")))
    # Nothing is unpacked before it is asked for; what is asked for before holds.
    assert browser.js("usep.players[0].sound.media.every(m => !m.src)")
    browser.js("usep.players[0].seek(1) || 1")
    browser.click(".play")
    browser.hold_media(1.8)
    browser.keys("1")
    assert _state(browser)["hearing"] == ["Source 1"] and _state(browser)["playing"]
    assert browser.js("usep.players[0].sound.media.map(m => m.muted)") == [True, False, True]
    browser.click(".lane:nth-child(2) .stage", 0.5)
    browser.js("usep.players[0].play().then(() => 1)")
    browser.hold_media(3.5)
    browser.keys(" ")
    clocks = browser.js("usep.players[0].sound.media.map(m => m.currentTime)")
    assert not _state(browser)["playing"] and clocks == 3 * [_state(browser)["time"]]
    # Whole frames, before a browser has read to the end of a stream: less than one more than there is sound.
    frame_s = streamed.Coding(RATE, 1, 24).frame / RATE
    durations = browser.js("usep.players[0].sound.media.map(m => m.duration)")
    assert durations == pytest.approx(3 * [SECONDS], abs=frame_s), durations
    assert browser.js("usep.players[0].sound.media.every(m => m.src.startsWith('blob:'))")
    browser.quiet()


def test_streams_are_played_even_while_the_page_is_read(browser: Any, tmp_path: Path):
    # The texts come last: who plays before they are there waits for them, and one that is missing is told of.
    page = _page(_streamed, "streamed")
    slow = "Object.defineProperty(document, 'readyState', {get: () => 'loading'});"
    browser.open(html.save(tmp_path / "report.html", page), before=slow)
    browser.js("usep.players[0].toggle() && 1")
    assert browser.js("usep.players[0].host.classList.contains('busy')") and not _state(browser)["playing"]
    browser.js("document.dispatchEvent(new Event('DOMContentLoaded')) && 1")
    browser.wait("usep.players[0].time > 0")
    browser.quiet()
    cut = page.replace('id="sound-2"', 'id="gone"')
    browser.open(html.save(tmp_path / "cut.html", cut))
    browser.click(".play")
    browser.wait("document.querySelector('.hearing').textContent.includes('the page is not complete')")


def test_linked_files_stop_when_asked_and_at_their_own_end(browser: Any, tmp_path: Path):
    # The files end before the length that the page was told, as truncated ones do.
    def short(name: str, wave: np.ndarray) -> str:
        sf.write(tmp_path / f"{name}.wav", wave[: 5 * RATE], RATE)
        return html.link(tmp_path / f"{name}.wav", tmp_path)

    browser.open(html.save(tmp_path / "report.html", _page(short, sound="linked")))
    browser.js("usep.players[0].toggle() && usep.players[0].toggle() || 1")
    browser.wait("!usep.players[0].host.classList.contains('busy')")
    assert not _state(browser)["playing"] and browser.js("usep.players[0].sound.media.every(m => m.paused)")
    assert "cannot be played" not in browser.js("document.querySelector('.hearing').textContent")
    browser.js("usep.players[0].seek(4.7) || 1")
    browser.click(".play")
    browser.wait("usep.players[0].time > 5 && !usep.players[0].playing")
    assert _state(browser)["time"] == SECONDS


def test_the_policy_stops_every_request(browser: Any, named: Path):
    browser.open(named)
    browser.js("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    browser.js("fetch('http://127.0.0.1:9/').catch(() => 0) && 1")
    browser.js("document.body.insertAdjacentHTML('beforeend', '<a id=bad onclick=\"window.evil = 1\">x</a>') || 1")
    browser.js("document.getElementById('bad').click() || 1")
    browser.wait("(window.violations || []).length >= 3")
    assert browser.js("window.evil === undefined")
    browser.console()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_fits_a_screen_by_day_and_night(browser: Any, named: Path, width: int, dark: bool):
    browser.open(named, width=width, dark=dark)
    assert browser.js("document.documentElement.scrollWidth") <= width
    back = browser.js("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(19, 22, 26)" if dark else "rgb(246, 245, 242)")
    # Something is drawn in every lane, in more than one colour.
    shades = browser.js(
        "[...document.querySelectorAll('.picture')].map(c => new Set(new Uint32Array("
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size)"
    )
    assert len(shades) == 3 and min(shades) > 20
    small = browser.js(
        "[...document.querySelectorAll('.bar button')].filter(b => b.offsetHeight && b.offsetHeight < 30).length"
    )
    assert small == 0


def test_the_table_of_many_sorts_and_lists_failures(browser: Any, tmp_path: Path):
    rows = [
        Entry("b.wav", "./b_report.html", 90.0, 2, 2, 0.0, -140.0, 8, 1),
        Entry(EVIL, "", 700.0, 2, 1, -1.5, -math.inf, 70, 0),
        Entry("a.wav", "", 8.0, 2, 2, 0.0, math.nan, 0, 0),
    ]
    page = html.save(tmp_path / "report.html", index_page("Many", rows, [("bad.wav", f"unreadable {EVIL}")]))
    browser.open(page)
    names = "[...document.querySelectorAll('table.sortable tbody th')].map(c => c.textContent)"
    assert browser.js(names) == ["b.wav", EVIL, "a.wav"]
    browser.click("table.sortable th:nth-child(2) button")
    assert browser.js(names) == ["a.wav", "b.wav", EVIL]
    browser.click("table.sortable th:nth-child(2) button")
    assert browser.js(names) == [EVIL, "b.wav", "a.wav"]
    assert browser.js("document.querySelector('.notice').textContent") == "1 recording failed, listed below."
    text = page.read_text(encoding="utf-8")
    assert "1 of 78" in text and "<img" not in text and "13:18" in text
    browser.quiet()
