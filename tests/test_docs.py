"""What the documents name is there."""

import re

import pytest

from support.paths import ROOT

# A changelog names what is gone, too.
PAGES = [*(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"), *(ROOT / "docs").rglob("*.md")]
# The end of an address (`example.org/docs/page`) is no path.
PATH = re.compile(r"(?<!\w/)\b(?:toolkit|tests|docs|benchmarks|dataset_cards|model_cards)/[\w./-]+\w/?")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    named = {ROOT / path for path in PATH.findall(text)}
    linked = {page.parent / target for target in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", text)}
    assert {path for path in named | linked if not path.exists()} == set()
