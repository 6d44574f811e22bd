"""Take the picture in docs/separate.md of the page that `usep separate --report` makes, with Chromium.

python benchmarks/report_figure.py benchmarks/figures/report.png
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[1] / "usepcli" / "samples" / "two_talkers.flac"
WIDTH, HEIGHT = 1100, 700


def main() -> None:
    """Separate the sample with a report, open the page, save what the window shows."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--driver", default="/usr/bin/chromedriver")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "out"
        command = [sys.executable, "-m", "usepcli", "separate", str(SAMPLE), "-o", str(made), "--report", "-q"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        options = webdriver.ChromeOptions()
        options.binary_location = asked.browser
        for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "hide-scrollbars"):
            options.add_argument(f"--{flag}")
        options.add_argument(f"--user-data-dir={folder}/profile")
        browser = webdriver.Chrome(options=options, service=Service(asked.driver))
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((made / "report.html").as_uri())
        time.sleep(2)  # until the sound is decoded
        browser.save_screenshot(str(asked.out))
        browser.quit()


if __name__ == "__main__":
    main()
