"""A headless Chromium on a page, and a server of one's own to open."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def driver_path() -> str | None:
    """Where Chromium's driver is; None where it or Chromium is not installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    return shutil.which("chromedriver") if browser else None


@contextmanager
def chromium(*more: str, size: tuple[int, int] = (1280, 900)) -> Iterator[Any]:
    """A browser with a profile of its own, and `downloads`, the folder that it downloads to."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser")
        for option in (*OPTIONS, *more, f"--user-data-dir={profile}/profile"):
            options.add_argument(option)
        options.add_argument(f"--window-size={size[0]},{size[1]}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        downloads = Path(profile) / "downloads"
        downloads.mkdir()
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        driver = webdriver.Chrome(options, Service(driver_path()))
        driver.downloads = downloads
        driver.set_script_timeout(30)
        try:
            yield driver
        finally:
            driver.quit()


def viewport(driver: Any, width: int, height: int, phone: bool = False) -> None:
    """From now on the page is of this size."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1 + phone, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def scheme(driver: Any, name: str) -> None:
    """light or dark."""
    features = [{"name": "prefers-color-scheme", "value": name}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def key(driver: Any, name: str, down: bool = True, up: bool = True) -> None:
    """A key as a keyboard sends it."""
    named = {"left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown"}
    named |= {"space": " ", "enter": "Enter"}
    pressed = json.dumps({"key": named.get(name, name), "code": name, "bubbles": True})
    for kind in ["keydown"] * down + ["keyup"] * up:
        driver.execute_script(
            f"document.activeElement.dispatchEvent(new KeyboardEvent('{kind}', {pressed}))"
        )


@contextmanager
def played(run: Path, *arguments: str) -> Iterator[str]:
    """The address at which `worldmodel play` serves a run."""
    command = [sys.executable, "-m", "worldmodel", "play", str(run), "--view", "browser"]
    process = subprocess.Popen(
        [*command, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.send_signal(2)
        process.wait(30)
