"""Rendering of cards: what is shown, and what must never reach a browser."""

import pytest

from toolkit.cards.markdown import front_matter, render_markdown


def test_tables_and_folded_parts_are_kept() -> None:
    html = render_markdown(
        "| a | b |\n|---|--:|\n| 1 | 2 |\n\n<details><summary>More</summary>\n\n**bold**\n\n</details>\n"
    )
    assert '<td style="text-align:right">2</td>' in html
    assert "<details><summary>More</summary>" in html
    assert "<strong>bold</strong>" in html


def test_front_matter_is_not_shown() -> None:
    assert render_markdown("---\nlicense: mit\n---\n# Title\n") == "<h1>Title</h1>\n"


def test_relative_images_stay_relative() -> None:
    assert 'src="figures/loss.png"' in render_markdown("![loss](figures/loss.png)")


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        '<img src="x" onerror="alert(1)">',
        "[x](javascript:alert(1))",
        '<a href="JaVaScRiPt:alert(1)">x</a>',
        '<a href="&#106;avascript:alert(1)">x</a>',
        '<a href="data:text/html,<script>alert(1)</script>">x</a>',
        '<iframe src="https://elsewhere.example"></iframe>',
        '<svg onload="alert(1)"><script>alert(1)</script></svg>',
        '<form action="/api/repos/delete"><button>x</button></form>',
        '<style>body { background: url("https://elsewhere.example") }</style>',
        '<table><tr><td style="background: url(javascript:alert(1))">x</td></tr></table>',
        '<details ontoggle="alert(1)" open><summary>x</summary></details>',
        '<table><tr><td style="position: fixed">x</td></tr></table>',
        '<base href="https://elsewhere.example">',
        '<meta http-equiv="refresh" content="0; url=https://elsewhere.example">',
    ],
)
def test_nothing_that_a_browser_would_run_is_kept(attack: str) -> None:
    html = render_markdown(attack).lower()
    for trace in (
        "<script",
        " on",
        'href="java',
        'href="data',
        "<iframe",
        "<svg",
        "<form",
        "<style",
        "url(",
        "position",
        "<base",
        "<meta",
    ):
        assert trace not in html


def test_front_matter_is_read_as_plain_values() -> None:
    text = "---\r\nlicense: mit\r\ndate: 2024-05-01\r\nscore: .nan\r\ntags: [a, 2]\r\n---\r\nbody"
    assert front_matter(text) == {"license": "mit", "date": "2024-05-01", "score": "nan", "tags": ["a", 2]}


@pytest.mark.parametrize(
    "text", ["", "# Title", "--- \n---\n", "---\nnever: closed\n", "----\na: 1\n----\n", "text\n---\na: 1\n---\n"]
)
def test_without_front_matter_there_are_no_values(text: str) -> None:
    assert front_matter(text) == {}


NESTED = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9))]
)


@pytest.mark.parametrize(
    "block",
    [
        "a: [",
        "- a",
        "just text",
        'a: !!int ""',
        "a: 2024-13-45",
        "a: !!python/object:os.system x",
        "a: &a [*a]",
        "[" * 5000,
        NESTED,
    ],
)
def test_broken_front_matter_is_a_value_error(block: str) -> None:
    with pytest.raises(ValueError, match="front matter"):
        front_matter(f"---\n{block}\n---\n")
