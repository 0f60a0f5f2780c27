"""The pages of the local Hub: what a person sees, and what a card cannot do there."""

import re
from collections.abc import Iterator

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

from toolkit.hub.local.serve import running_hub

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
CARD = """---
license: mit
tags: [a, b]
model-index: [{name: x}]
---
# The card of *all*
![loss](figures/loss.png) ![far](https://elsewhere.example/far.png) ![out](../../x.png)
[한국어](README.ko.md) [below](#the-card-of-all) [away](https://elsewhere.example/) [data](data:text/html,x)

| a | b |
|---|--:|
| 1 | 2 |

<script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:alert(1)">x</a><iframe src="/"></iframe>
<style>body { display: none }</style><form action="/login"><input name=x></form><svg onload=alert(1)></svg>
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_hub(tmp_path_factory.mktemp("hub")) as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo("demo/a")
        api.create_repo("demo/names", repo_type="dataset")
        files = {
            "README.md": CARD.encode(),
            "README.ko.md": "# 카드\n[up](README.md)".encode(),
            "figures/loss.png": PNG,
            "data/deep/rows.jsonl": b'{"<b>": 1}\n',
            "weights.bin": bytes(5_000_000),
            "한 글 #1?.txt": b"text",
        }
        api.create_commit(
            "demo/a", [CommitOperationAdd(path, content) for path, content in files.items()], commit_message="All <b>"
        )
        api.create_commit(
            "demo/a",
            [
                CommitOperationCopy("weights.bin", "moved.bin"),
                CommitOperationDelete("weights.bin"),
                CommitOperationDelete("README.ko.md"),
                CommitOperationAdd("data/deep/rows.jsonl", b'{"<b>": 2}\n'),
            ],
            commit_message="Second",
        )
        api.create_tag("demo/a", tag="v1", revision=api.list_repo_commits("demo/a")[1].commit_id)
        yield url


def get(url: str) -> str:
    return httpx2.get(url, headers={"Accept": "text/html"}, follow_redirects=True).raise_for_status().text


def test_the_front_page_lists_repositories_with_their_last_commit(hub: str) -> None:
    page = get(hub)
    assert 'href="/demo/a"' in page
    assert 'href="/datasets/demo/names"' in page
    assert "Second" in page
    assert '<span class="chip">mit</span>' in page


def test_a_card_shows_its_pictures_and_links_to_pages_here(hub: str) -> None:
    page = get(f"{hub}/demo/a")
    assert '<img src="/demo/a/resolve/main/figures/loss.png" alt="loss">' in page
    assert httpx2.get(f"{hub}/demo/a/resolve/main/figures/loss.png").content == PNG
    assert 'href="/demo/a/blob/main/README.ko.md"' in page
    assert '<h1 id="the-card-of-all">' in page
    assert 'href="#the-card-of-all"' in page
    assert '<span class="chip">b</span>' in page
    assert '<div class="wide"><table>' in page


def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing(hub: str) -> None:
    reply = httpx2.get(f"{hub}/demo/a")
    assert "image elsewhere: https://elsewhere.example/far.png far" in reply.text
    assert "no such image here: ../../x.png out" in reply.text
    assert set(re.findall(r'\bsrc="([^"]*)"', reply.text)) == {
        "/demo/a/resolve/main/figures/loss.png",
        "/demo/a/resolve/main/x",
    }
    for forbidden in ("<script", "onerror", "onload", "javascript:", "<iframe", "<form", "<svg", '="data:', "none }"):
        assert forbidden not in reply.text.partition("</style>")[2], forbidden
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "'self'"
    assert policy["style-src-elem"].startswith("'sha256-")
    assert "script-src" not in policy


def test_the_korean_card_is_one_click_away_while_it_is_there(hub: str) -> None:
    page = get(f"{hub}/demo/a/blob/v1/README.ko.md")
    assert '<article class="card" lang="ko">' in page
    assert "카드</h1>" in page
    assert '<a href="/demo/a/blob/v1/README.md">English</a>' in page
    assert ">한국어</a> ·" not in get(f"{hub}/demo/a")
    assert httpx2.get(f"{hub}/demo/a/blob/main/README.ko.md").status_code == 404


def test_files_are_listed_with_sizes_folders_first(hub: str) -> None:
    page = get(f"{hub}/demo/a/tree/v1")
    shown = re.findall(r'<a href="/demo/a/(?:tree|blob)/v1/[^"]*">([^<]*)</a>', page)
    assert shown == ["data/", "figures/", ".gitattributes", "README.ko.md", "README.md", "weights.bin", "한 글 #1?.txt"]
    assert "5.0 MB" in page
    assert "rows.jsonl" in get(f"{hub}/demo/a/tree/main/data/deep")
    assert "rows.jsonl" in get(f"{hub}/demo/a/blob/main/data/deep")
    assert httpx2.get(f"{hub}/demo/a/tree/main/nothing").status_code == 404


def test_every_link_of_every_page_leads_somewhere(hub: str) -> None:
    seen, ahead = set(), ["/"]
    while ahead:
        path = ahead.pop()
        seen.add(path)
        reply = httpx2.get(hub + path, headers={"Accept": "text/html"}, follow_redirects=True)
        missing = path.endswith(("README.ko.md", "/x"))  # the card itself names what is not there
        assert reply.status_code == 200 or missing, path
        if "html" in reply.headers["Content-Type"]:
            links = re.findall(r'\b(?:href|src)="(/[^"#]*)', reply.text)
            ahead += [link for link in dict.fromkeys(links) if link not in {*seen, *ahead}]
    assert len(seen) > 25


def test_commits_are_listed_with_their_files(hub: str) -> None:
    page = get(f"{hub}/demo/a/commits/main")
    assert re.findall(r">(Second|All &lt;b&gt;|initial commit)</a>", page) == [
        "Second",
        "All &lt;b&gt;",
        "initial commit",
    ]
    first = HfApi(endpoint=hub, token="x").list_repo_commits("demo/a")[1]
    assert f'href="/demo/a/tree/{first.commit_id}"' in page
    assert "weights.bin" in get(f"{hub}/demo/a/commit/{first.commit_id}")


def test_a_text_is_shown_as_it_is_and_a_binary_is_not(hub: str) -> None:
    assert "{&#34;&lt;b&gt;&#34;: 2}" in get(f"{hub}/demo/a/blob/main/data/deep/rows.jsonl")
    assert "Not shown here" in get(f"{hub}/demo/a/blob/main/moved.bin")
    assert '<img src="/demo/a/resolve/main/figures/loss.png"' in get(f"{hub}/demo/a/blob/main/figures/loss.png")


def test_a_refusal_is_a_page_for_a_browser_and_json_for_others(hub: str) -> None:
    page = httpx2.get(f"{hub}/demo/missing", headers={"Accept": "text/html,*/*"})
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "Repository not found" in page.text
    assert httpx2.get(f"{hub}/demo/missing").json() == {"error": "Repository not found"}
