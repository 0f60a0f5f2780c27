"""The app: what a reader sees in a browser, on a phone too, and that the page asks nobody else for anything."""

import gc
import importlib.util
import os
import threading
from contextlib import contextmanager

import httpx2
import pytest
from click.testing import CliRunner

from support.browser import NEEDS_BROWSER
from toolkit import cli
from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.listen import running
from toolkit.hub.space import app as page
from toolkit.hub.space import serve
from toolkit.model import adapter as adapters

NEEDS_GRADIO = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")
ABOUT = page.About("names", ["A small red fox with six tails of flame. " * 6, "꼬리가 여섯인 작은 여우."], "Measured.")


def answer(description, presses):
    """Answers at once, with what was asked."""
    if description == "bad":
        raise page.Problem("Leave out <end_of_turn>.")
    return page.Answer([f"Fox{presses}", "<b>x</b>", "W" * 90], [("Vulpix", 0.7), ("여우", 0.2)])


def served(answers):
    return running(serve.make_server(ABOUT, answers))


@contextmanager
def opened(browser, url, width=400):
    context = browser.new_context(viewport={"width": width, "height": 850})
    tab = context.new_page()
    tab.asked = []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(url)
    tab.wait_for_selector("#ask")
    try:
        yield tab
    finally:
        context.close()


def ask(tab, text):
    tab.fill("#description textarea", text)
    tab.click("#ask")


@NEEDS_GRADIO
@NEEDS_BROWSER
def test_a_description_gives_names_and_the_nearest_creatures_on_a_phone(browser):
    with served(answer) as url, opened(browser, url) as tab:
        ask(tab, "A small fox.")
        tab.wait_for_selector("#names li")
        assert tab.locator("#names li").all_inner_texts() == ["Fox0", "<b>x</b>", "W" * 90]
        shown = tab.inner_text("#nearest")
        assert "Vulpix" in shown
        assert "70%" in shown
        assert "여우" in shown
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert {asked.split("/")[2] for asked in tab.asked if asked.startswith("http")} == {url.split("/")[2]}
        tab.click("#ask")
        tab.wait_for_selector("#names li:text('Fox1')")


@NEEDS_GRADIO
@NEEDS_BROWSER
def test_a_problem_is_a_line_on_the_page_and_goes_away(browser):
    with served(answer) as url, opened(browser, url) as tab:
        tab.click("#ask")
        tab.wait_for_selector("#problem p:text('Write a sentence')")
        ask(tab, "bad")
        tab.wait_for_selector("#problem p:text('Leave out <end_of_turn>.')")
        ask(tab, "a " * 1500)
        tab.wait_for_selector("#problem p:text('2,999 characters')")
        ask(tab, "A fox.")
        tab.wait_for_selector("#names li")
        assert not tab.is_visible("#problem")


@NEEDS_GRADIO
@NEEDS_BROWSER
def test_an_example_fills_the_description(browser):
    with served(answer) as url, opened(browser, url) as tab:
        tab.click("text=꼬리가 여섯인 작은 여우.")
        tab.wait_for_function("document.querySelector('#description textarea').value.startsWith('꼬리가')")
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@NEEDS_GRADIO
@NEEDS_BROWSER
@pytest.mark.parametrize("fails", [False, True])
def test_the_button_says_that_an_answer_is_on_its_way_until_it_is_there(browser, fails):
    go_on = threading.Event()

    def slow(description, presses):
        go_on.wait(20)
        if fails:
            raise ValueError(description)
        return page.Answer([description], [])

    with served(slow) as url, opened(browser, url) as tab:
        ask(tab, "A fox.")
        tab.wait_for_selector("#ask[disabled]:text('Thinking')")
        go_on.set()
        tab.wait_for_selector("#ask:not([disabled]):text('Name it')")
        assert tab.is_visible("#names li") is not fails


@NEEDS_GRADIO
@NEEDS_BROWSER
def test_two_people_are_answered_one_after_the_other(browser):
    inside, most, begun, go_on = [], [], threading.Event(), threading.Event()

    def slow(description, presses):
        inside.append(description)
        most.append(len(inside))
        begun.set()
        go_on.wait(20)
        inside.remove(description)
        return page.Answer([description], [])

    with served(slow) as url, opened(browser, url) as one, opened(browser, url) as two:
        ask(one, "first")
        assert begun.wait(20)
        ask(two, "second")
        # It stands in the queue once its page shows how long it waits.
        two.wait_for_selector("text=/queue/")
        go_on.set()
        one.wait_for_selector("#names li:text('first')")
        two.wait_for_selector("#names li:text('second')")
    assert most == [1, 1]


@NEEDS_GRADIO
def test_the_page_is_served_whole_and_gradio_reports_to_nobody(monkeypatch):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    with served(answer) as url:
        config = httpx2.get(f"{url}/config").json()
    assert config["title"] == "names"
    assert config["analytics_enabled"] is False
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    gc.collect()  # what is left open is a warning, and so an error, here and not in the next test


def test_the_command_loads_once_and_shows_every_error_of_an_answer_as_a_problem(adapter, monkeypatch):
    served, loaded = [], []
    monkeypatch.setattr("toolkit.cli.process.silence", lambda: None)
    monkeypatch.setattr(serve, "check_installed", lambda: None)
    monkeypatch.setattr(serve, "serve", lambda *arguments: served.append(arguments))
    load = adapters.load_adapters
    monkeypatch.setattr(adapters, "load_adapters", lambda *given, **how: loaded.append(given) or load(*given, **how))
    result = CliRunner().invoke(cli.main, ["app", "--adapter", str(adapter), "--port", "0"])
    assert result.exit_code == 0, result.output
    about, answer, host, port, _ = served[0]
    assert (about.title, host, port) == ("adapter", "127.0.0.1", 0)
    found = [answer("A small fox.", presses) for presses in (0, 0)]
    assert found[0] == found[1]
    assert len(loaded) == 1
    with pytest.raises(page.Problem, match="control token <end_of_turn>"):
        answer("A fox.<end_of_turn>", 0)


def test_without_gradio_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentLacks, match=r"needs gradio.*pip install gradio"):
        serve.serve(ABOUT, answer, "127.0.0.1", 0, print)


@pytest.mark.parametrize(
    ("file", "text"), [("samples.jsonl", "[]\n"), ("samples.jsonl", "x\n"), ("evaluation.json", '{"test": {"a": 1}}')]
)
def test_damaged_samples_or_figures_are_an_input_error(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match="are damaged"):
        serve.about(tmp_path)
