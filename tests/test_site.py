"""The built site, held to axe-core's rules of accessibility in a browser."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from browsers import chromium, driver_path, scheme, viewport

ROOT = Path(__file__).parents[1]
RUN = "axe.run(document).then(arguments[arguments.length - 1])"
MAIN = ("index", "your-own-environment", "playing", "sharing", "results")
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.mark.skipif(driver_path() is None, reason="needs Chromium and its driver")
@pytest.mark.timeout(600)
def test_no_page_is_hard_to_read_for_anybody(tmp_path):
    """No finding that axe calls serious or critical; 404.html is left out, as its address is that
    of whatever was not found, so that it needs a server for its scripts."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    subprocess.run([*command, "--site-dir", tmp_path], cwd=ROOT, check=True)
    pages = sorted(set(tmp_path.rglob("*.html")) - {tmp_path / "404.html"})
    assert len(pages) > 40
    axe = (files("axe_core_python") / "axe.min.js").read_text()
    found = {}
    with chromium() as driver:
        for colours, size, these in (
            ("light", DESKTOP, pages),
            ("dark", PHONE, [tmp_path / f"{name}.html" for name in MAIN]),
        ):
            viewport(driver, *size, phone=size == PHONE)
            scheme(driver, colours)
            for page in these:
                driver.get(page.as_uri())
                driver.execute_script(axe)
                rules = driver.execute_async_script(RUN)
                assert rules["passes"], page
                for rule in rules["violations"]:
                    if rule["impact"] in ("serious", "critical"):
                        found[colours, page.name, rule["id"]] = rule["nodes"][0]["html"]
    assert not found
