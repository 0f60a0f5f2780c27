"""The documentation as a site: its reference follows from the code, no link leads nowhere, and a phone can read it."""

import re
import runpy
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from support.browser import NEEDS_BROWSER, browser  # noqa: F401
from support.paths import ROOT

DOCS = ROOT / "docs"
# What does not fit the width, in nothing of its own that scrolls: the theme then scrolls the whole text.
TOO_WIDE = """() => {
    const scrolls = part => part.tagName != "ARTICLE" &&
        (["auto", "scroll"].includes(getComputedStyle(part).overflowX) || scrolls(part.parentElement))
    return [...document.querySelectorAll("article *")]
        .filter(part => part.getBoundingClientRect().right > innerWidth + 1 && !scrolls(part))
        .map(part => part.outerHTML.slice(0, 99))
}"""
REFERENCE = runpy.run_path(str(DOCS / "make_reference.py"))["PAGES"]


@pytest.mark.parametrize("page", REFERENCE)
def test_a_page_of_the_reference_is_what_the_code_says(page):
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == REFERENCE[page](), "run `python docs/make_reference.py`"


def test_every_setting_says_what_it_is():
    rows = re.findall(r"^\| `(\w+)`.*? \| (.)", REFERENCE["settings.md"](), re.MULTILINE)
    assert [setting for setting, _ in rows][:3] == ["name", "task", "base"]
    assert [setting for setting, first in rows if first == "*"] == []


def test_links_to_other_sites_are_whole_addresses():
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    linked = {link for page in pages for link in re.findall(r"\]\((\w+:[^)]*)\)", page.read_text(encoding="utf-8"))}
    assert linked
    assert {link for link in linked if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[^\s<>]*)?", link)} == set()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Every page built, where a link or an anchor that leads nowhere is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", str(DOCS), str(out)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(site):
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    built = {page.relative_to(site) for page in site.rglob("*.html")}
    assert pages <= built
    for page in pages:
        text = (site / page).read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
        loaded += re.findall(r'<link\b[^>]*\brel="stylesheet"[^>]*\bhref="([^"]+)"', text)
        assert loaded
        assert not [address for address in loaded if urlsplit(address).netloc], page


@NEEDS_BROWSER
def test_a_phone_and_a_desktop_show_pages_whole_and_the_way_to_the_others(site, browser):  # noqa: F811
    for device, width, pages in ("phone", 390, DOCS.rglob("*.md")), ("desktop", 1280, [DOCS / "figures.md"]):
        view = browser.new_page(viewport={"width": width, "height": 800}, offline=True)
        for page in pages:
            view.goto((site / page.relative_to(DOCS)).with_suffix(".html").as_uri())
            assert view.evaluate(TOO_WIDE) == [], f"{page.name} on a {device}"
        view.goto((site / "index.html").as_uri())
        if device == "phone":
            view.locator("label[for=__navigation]:visible").first.click()
        view.get_by_role("link", name="Settings", exact=True).click()
        view.get_by_role("heading", name="The settings of a recipe").wait_for()
        view.close()
