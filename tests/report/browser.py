"""A real browser for the tests of pages: headless Chromium, driven through its own driver; skipped without one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required", "--force-device-scale-factor=1", "--mute-audio",
)  # fmt: skip


PATIENCE_S = 900.0  # what hangs ends, what is slow does not fail

# Ahead of a page: writes down from where each sound is started.
STARTS = (
    "window.starts = []; { const start = AudioBufferSourceNode.prototype.start;"
    "AudioBufferSourceNode.prototype.start = function (when, offset) {"
    "window.starts.push(offset); return start.call(this, when, offset); }; }"
)


class Browser:
    """One browser window; `open` shows a page from disk, `js` runs a script in it and returns its value."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = 1200, height: int = 900, dark: bool = False, before: str = "") -> None:
        """Show the file; `before` is a script that runs ahead of the page's own."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        watch = (
            "window.addEventListener('securitypolicyviolation', e => (window.violations ||= []).push(e.blockedURI));"
        )
        script = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch + before})
        self.driver.get_log("browser")
        self.driver.get(path.resolve().as_uri())
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)

    def js(self, script: str, *arguments: Any) -> Any:
        """Return the value of an expression, e.g. `usep.players[0].time`; arguments are arguments[0] and so on."""
        return self.driver.execute_script(f"return ({script});", *arguments)

    def wait(self, script: str, timeout_s: float = PATIENCE_S) -> Any:
        """Return the value of an expression as soon as it is true; AssertionError after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not (value := self.js(script)):
            assert time.monotonic() < end, f"never true: {script}; console: {self.console()}"
            time.sleep(0.03)
        return value

    def hold(self, number: int, at: float) -> None:
        """Let a player of sounds inside the page play, at a moment where its clock stands still."""
        self.js(
            "(async (p, at) => { do { await p.play(); await p.sound.context.suspend(); } while (!p.playing);"
            "p.seek(at); return true; })(usep.players[arguments[0]], arguments[1])", number, at,
        )  # fmt: skip

    def hold_media(self, after: float) -> None:
        """Let the first player of media elements play to beyond a moment, all of them together, and stop their clocks.

        A sound that ended before the browser was asked is played again.
        """
        self.wait(
            "(p => { const media = p.sound.media;"
            "if (!p.playing && !p.host.classList.contains('busy')) p.play();"
            "if (!p.playing || p.sound.ended || p.time <= arguments[0] || media.some(m => m.paused)) return false;"
            "if (media.some(m => Math.abs(m.currentTime - p.time) > 0.1)) return false;"
            "media.forEach(m => m.pause()); return true; })(usep.players[0])".replace("arguments[0]", str(after))
        )

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click an element at a fraction of its width and height."""
        from selenium.webdriver import ActionChains

        element = self.driver.find_element("css selector", selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'});", element)
        size = element.size
        dx, dy = round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])
        ActionChains(self.driver, duration=0).move_to_element_with_offset(element, dx, dy).click().perform()

    def keys(self, *keys: str) -> None:
        """Type on whatever has the focus."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def console(self) -> list[str]:
        """Return the errors and warnings on the console since the last call."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]

    def quiet(self) -> None:
        """Assert that nothing was complained about, blocked, or fetched from anywhere but this disk."""
        assert self.console() == []
        assert self.js("window.violations || []") == []
        asked = self.js("performance.getEntriesByType('resource').map(e => e.name)")
        assert [url for url in asked if not url.startswith(("data:", "blob:", "file:"))] == []

    def picture(self, out: Path, whole: bool = True) -> Path:
        """Save what the page looks like as PNG."""
        import base64

        made = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
        if whole:
            size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            options = {"captureBeyondViewport": True, "clip": clip}
            made = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        out.write_bytes(base64.b64decode(made["data"]))
        return out


def start(profile: Path) -> Browser:
    """Start Chromium with an empty profile folder."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(PATIENCE_S)
    driver.set_page_load_timeout(PATIENCE_S)
    return Browser(driver)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of this session; skipped where selenium, Chromium or its driver is absent."""
    pytest.importorskip("selenium", reason="selenium is not installed (extra `test`)")
    if not shutil.which("chromedriver") or not (shutil.which("chromium") or shutil.which("chromium-browser")):
        pytest.skip("needs Chromium and chromedriver")
    browser = start(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.driver.quit()
