"""Pictures of the browser's page for the manual: a run played by its agent for some steps.

python tests/screenshots.py RUN [FOLDER]        needs Chromium; writes browser.png, ...
"""

import sys
import time
from pathlib import Path

from browsers import chromium, key, played, scheme, viewport


def wait_for(driver, condition: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not driver.execute_script(f"return {condition}"):
        if time.monotonic() > end:
            raise TimeoutError(f"{condition} has not come true; {driver.get_log('browser')}")
        time.sleep(0.05)


def main(run: Path, folder: Path) -> None:
    """Desktop and phone, light and dark."""
    with played(run, "--speed", "10") as address, chromium() as driver:
        driver.get(address)
        wait_for(driver, "state")
        key(driver, "t")
        wait_for(driver, "trail.length > 60")
        key(driver, "t")
        key(driver, "f")
        key(driver, "b")
        for name in ("light", "dark"):
            scheme(driver, name)
            ending = "" if name == "light" else "-dark"
            viewport(driver, 1280, 800)
            picture(driver, folder / f"browser{ending}.png")
            viewport(driver, 390, 844, phone=True)
            picture(driver, folder / f"browser-phone{ending}.png")
        for line in driver.get_log("browser"):
            print(line)


def picture(driver, path: Path) -> None:
    time.sleep(0.5)
    driver.save_screenshot(str(path))
    print(f"written: {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs"))
