"""The server's application: names and candidates as Python gives them, conversations as OpenAI's clients expect."""

import asyncio
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest
import torch
import uvicorn
from starlette.testclient import TestClient

from support.adapters import put_on
from support.browser import NEEDS_BROWSER
from toolkit.core.errors import EnvironmentLacks
from toolkit.core.layout import ANSWERS, TINY_BASE_ID
from toolkit.core.listen import running
from toolkit.model import base as bases
from toolkit.model import chat, generate, naming
from toolkit.model.chat_template import with_answer
from toolkit.serving import serve as application
from toolkit.serving.chat import complete
from toolkit.serving.requests import ChatRequest
from toolkit.serving.serve import Served, create_app

HERE = "http://127.0.0.1:8000"
CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "A small red fox with six tails."}]
GREEDY = {"messages": MESSAGES, "temperature": 0, "max_tokens": 12}
KEY = "pkt_0123456789"


@pytest.fixture(scope="module")
def served(tmp_path_factory, small_base):
    """Two adapters of the small base: one with the seed's weights, one sure of its words."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "tiny_base_folder", lambda: small_base)
        one = put_on(folder / "one", small_base, target_modules=["q_proj", "down_proj"])
        two = put_on(folder / "two", small_base, constant=0.4, target_modules=["v_proj", "down_proj"])
        (one / ANSWERS).write_text('["Squirtle", "Vulpix", "Pikachu"]')
        opened = naming.open_adapters([one, two])
    return [Served(name, TINY_BASE_ID, answerer) for name, answerer in zip(("one", "two"), opened, strict=True)]


@pytest.fixture
def serve(served):
    """Gives a client of the application, which may want a key."""
    with ThreadPoolExecutor(1) as compute:

        def client(api_key=None, **how):
            return TestClient(create_app(served, compute, api_key), base_url=HERE, **how)

        yield client


def events(client, **asked):
    """The chunks of a stream, of which the last line says that it is whole."""
    lines = client.post(CHAT, json={**asked, "stream": True}).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_names_and_candidates_are_those_of_python_from_the_adapter_that_is_named(serve, served):
    client, (one, two) = serve(), [each.answerer for each in served]
    asked = {"description": "A red fox.", "count": 2, "seed": 4}
    assert client.post("/v1/name", json=asked).json() == asdict(naming.name(one, "A red fox.", 2, 4))
    found = client.post("/v1/name", json=asked | {"model": "two"}).json()
    assert found == asdict(naming.name(two, "A red fox.", 2, 4))
    found = client.post("/v1/identify", json={"description": "A red fox.", "top": 2}).json()
    assert found == asdict(naming.identify(one, "A red fox.", 2))


def test_a_conversation_is_answered_with_the_probabilities_of_a_plain_pass(serve, served):
    answerer = served[0].answerer
    found = serve().post(CHAT, json=GREEDY | {"logprobs": True, "top_logprobs": 2, "n": 2}).json()
    assert (found["object"], found["model"], len(found["choices"])) == ("chat.completion", "one", 2)
    choice = found["choices"][0]
    decoding = answerer.decoding.model_copy(update={"max_new_tokens": 12})
    named = generate.greedy_name(answerer.model, answerer.tokenizer, MESSAGES, decoding)
    assert choice["message"]["content"].strip() == named
    assert choice["finish_reason"] == "length"
    prompt = chat.prompt_ids(answerer.tokenizer, MESSAGES)
    assert found["usage"] == {"prompt_tokens": len(prompt), "completion_tokens": 24, "total_tokens": len(prompt) + 24}
    ids = answerer.model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0]
    with torch.inference_mode():
        logits = answerer.model(ids[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    entries = choice["logprobs"]["content"]
    said = [entry["logprob"] for entry in entries]
    assert said == pytest.approx(logits.gather(1, ids[len(prompt) :, None])[:, 0].tolist(), abs=1e-4)
    second = [entry["top_logprobs"][1]["logprob"] for entry in entries]
    assert second == pytest.approx(logits.topk(2).values[:, 1].tolist(), abs=1e-4)


def test_a_turn_that_ends_is_counted_and_not_shown(serve, served, monkeypatch):
    answerer = served[0].answerer
    ids = chat.encode(answerer.tokenizer, with_answer(MESSAGES, "Vulpix")).answer_ids
    prompt = len(chat.prompt_ids(answerer.tokenizer, MESSAGES))

    def sure(writer, given, logits):
        logits.fill_(-100.0)[:, ids[given.shape[1] - prompt]] = 100.0
        writer.logits = logits
        return logits

    monkeypatch.setattr(application.chat.Writer, "keep", sure)
    found = serve().post(CHAT, json=GREEDY | {"logprobs": True, "max_completion_tokens": 40}).json()
    choice = found["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Vulpix", "stop")
    assert "".join(entry["token"] for entry in choice["logprobs"]["content"]) == "Vulpix"
    assert found["usage"]["completion_tokens"] == len(ids)
    assert found["usage"]["prompt_tokens"] == prompt


@pytest.mark.parametrize("how", [{"temperature": 1e-40}, {"seed": -5, "temperature": 1.5, "top_p": 1, "top_k": 0}])
def test_a_stream_says_what_the_whole_answer_says(serve, how):
    client, asked = serve(), {"messages": MESSAGES, "max_tokens": 30, "n": 3, "logprobs": True, **how}
    whole = client.post(CHAT, json=asked).json()
    chunks = events(client, **asked, stream_options={"include_usage": True})
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["usage"] == whole["usage"]
    assert [choice["delta"]["role"] for choice in chunks[0]["choices"]] == ["assistant"] * 3
    for choice in whole["choices"]:
        parts = [part for chunk in chunks for part in chunk["choices"] if part["index"] == choice["index"]]
        assert "".join(part["delta"]["content"] for part in parts) == choice["message"]["content"]
        entries = [entry for part in parts if part["logprobs"] for entry in part["logprobs"]["content"]]
        assert entries == choice["logprobs"]["content"]
        assert [part["finish_reason"] for part in parts if part["finish_reason"]] == [choice["finish_reason"]]


def test_the_same_seed_draws_the_same_and_none_draws_anew(serve):
    client, asked = serve(), {"messages": MESSAGES, "temperature": 2, "top_p": 1, "top_k": 0, "max_tokens": 20}
    told = [client.post(CHAT, json={**asked, **seed}).json() for seed in ({"seed": 3}, {"seed": 3}, {}, {})]
    first, same, other, another = (each["choices"][0]["message"]["content"] for each in told)
    assert first == same
    assert len({first, other, another}) == 3


def test_an_answer_ends_before_a_stop_and_a_stream_shows_nothing_of_it(serve):
    client = serve()
    text = client.post(CHAT, json=GREEDY).json()["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 :][:3]
    asked = GREEDY | {"stop": [stop, "never said"]}
    choice = client.post(CHAT, json=asked).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text[: text.find(stop)], "stop")
    parts = [part["delta"]["content"] for chunk in events(client, **asked) for part in chunk["choices"]]
    assert "".join(parts) == text[: text.find(stop)]


@pytest.mark.parametrize(
    ("path", "asked", "status", "said"),
    [
        (CHAT, {"messages": MESSAGES, "model": "three"}, 404, "There is no model three. There are: one, two."),
        (CHAT, {"messages": []}, 400, "messages: "),
        (CHAT, {"messages": [{"role": ["user"], "content": "A fox."}]}, 400, "messages.0.role: "),
        (CHAT, {"messages": MESSAGES, "temperature": 3}, 400, "temperature: "),
        (CHAT, {"messages": MESSAGES, "n": True}, 400, "n: "),
        (CHAT, {"messages": MESSAGES, "response_format": {"type": "json_object"}}, 400, "support 'response_format'"),
        (CHAT, {"messages": MESSAGES, "tools": [{"type": "function"}]}, 400, "support 'tools'"),
        (CHAT, {"messages": MESSAGES, "top_logprobs": 2}, 400, "needs 'logprobs'"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0.content: "),
        (CHAT, {"messages": [{"role": "user", "content": "A <end_of_turn>"}]}, 400, "the control token <end_of_turn>"),
        (
            CHAT,
            {"messages": MESSAGES, "max_tokens": 600},
            400,
            "the model reads 512. Shorten it, or lower `max_tokens`",
        ),
        (CHAT, {"messages": MESSAGES, "max_tokens": 600, "stream": True}, 400, "the model reads 512"),
        ("/v1/identify", {"description": " "}, 400, "The description is empty."),
        ("/v1/identify", {"description": "A fox.", "model": "two"}, 400, "does not say which names it learnt"),
        ("/v1/name", {"description": "A fox.", "count": 0}, 400, "count: "),
        ("/v1/name", {"description": "fox " * 400}, 400, "The description is too long"),
        ("/v1/name", {"description": "x" * 2**20}, 413, "This server takes 1,048,576 at most."),
    ],
)
def test_what_cannot_be_answered_is_refused_in_the_shape_of_openai(serve, path, asked, status, said):
    response = serve().post(path, json=asked)
    assert response.status_code == status
    error = response.json()["error"]
    assert said in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "content", "kind", "status"),
    [
        ("POST", "/v1/name", '{"description"', "application/json", 400),
        ("POST", "/v1/name", '{"description": "A fox."}', "text/plain", 415),
        ("POST", "/v1/name", "description=fox", "application/x-www-form-urlencoded", 415),
        ("GET", "/v1/name", "", "application/json", 405),
        ("GET", "/v1/embeddings", "", "application/json", 404),
    ],
)
def test_other_requests_are_refused_too(serve, method, path, content, kind, status):
    response = serve().request(method, path, content=content, headers={"Content-Type": kind})
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_what_changes_nothing_may_be_asked_for(serve):
    asked = {"tools": [], "response_format": {"type": "text"}, "frequency_penalty": 0.0, "user": "ash", "store": False}
    turns = [{"role": "user", "content": [{"type": "text", "text": MESSAGES[0]["content"]}]}]
    client = serve()
    found = client.post(CHAT, json=GREEDY | asked | {"messages": turns}).json()
    assert found["choices"] == client.post(CHAT, json=GREEDY).json()["choices"]


def test_a_bug_shows_nothing_of_itself_to_the_client(serve, monkeypatch):
    def fail(*_, **__):
        raise ValueError("inner words")

    monkeypatch.setattr(naming, "identify", fail)
    client = serve(raise_server_exceptions=False)
    response = client.post("/v1/identify", json={"description": "A fox."})
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "inner words" not in response.text
    with pytest.raises(ValueError, match="inner words"):  # what uvicorn logs
        serve().post("/v1/identify", json={"description": "A fox."})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "10.0.0.1", "[", ""])
def test_without_a_key_a_foreign_host_is_refused(serve, host):
    client = serve()
    assert client.get("/v1/models", headers={"Host": host}).status_code == 403
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_the_names_of_this_machine_are_answered(serve, host):
    client = serve()
    assert client.get("/v1/models", headers={"Host": host}).status_code == 200
    assert client.get("/v1/models", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": host, "Origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Bearer kéy", 401),
        ("Basic eDpw!", 401),
        ("Basic eDpwa3RfMDEyMzQ1Njc4OQ==", 200),
        (f"Bearer {KEY}", 200),
    ],
)
def test_a_key_is_wanted_for_all_but_health(serve, header, status, caplog):
    caplog.set_level(logging.DEBUG)
    client, headers = serve(KEY), {} if header is None else {"Authorization": header.encode()}
    for path in ("/", "/metrics", "/v1/models"):
        response = client.get(path, headers={"Host": "server.example", **headers})
        assert response.status_code == status
        assert KEY not in response.text
        assert status == 200 or response.headers["www-authenticate"].startswith("Basic" if path == "/" else "Bearer")
    assert client.get("/health").status_code == 200
    assert KEY not in caplog.text


def test_requests_beyond_the_queue_are_sent_away(serve, monkeypatch):
    monkeypatch.setattr(application, "QUEUE", 0)
    entered, go_on = threading.Event(), threading.Event()

    def slow(answerer, description, top):
        entered.set()
        assert go_on.wait(20)
        return naming.Identified(description, [])

    monkeypatch.setattr(naming, "identify", slow)
    client, asked = serve(), {"description": "A fox."}
    with ThreadPoolExecutor(1) as other:
        first = other.submit(client.post, "/v1/identify", json=asked)
        assert entered.wait(20)
        second = client.post("/v1/identify", json=asked)
        assert client.get("/health").json()["queue"] == 1
        go_on.set()
        assert first.result().status_code == 200
    assert (second.status_code, second.headers["retry-after"]) == (503, "5")
    assert second.json()["error"]["type"] == "server_error"


def test_what_was_answered_is_counted_for_machines_and_people(serve, caplog):
    caplog.set_level(logging.DEBUG, "toolkit.serving")
    client = serve()
    client.post(CHAT, json=GREEDY)
    client.get("/secret?token=1")
    lines = client.get("/metrics").text.splitlines()
    assert f'pkt_requests_total{{path="{CHAT}",status="200"}} 1' in lines
    assert 'pkt_requests_total{path="other",status="404"} 1' in lines
    assert "pkt_completion_tokens_total 12" in lines
    assert f'pkt_adapter_loaded{{adapter="two",base="{TINY_BASE_ID}"}} 1' in lines
    page = client.get("/")
    assert "12 written" in page.text
    assert "<td>two</td>" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert [record.message.rpartition(" ")[0].rpartition(" ")[0] for record in caplog.records][:2] == [
        f"POST {CHAT} 200",
        "GET /secret 404",
    ]


def test_the_models_are_listed(serve):
    data = serve().get("/v1/models").json()["data"]
    assert [(each["id"], each["object"], each["owned_by"]) for each in data] == [
        ("one", "model", TINY_BASE_ID),
        ("two", "model", TINY_BASE_ID),
    ]


@pytest.mark.parametrize("stream", [True, False])
def test_the_model_stops_writing_for_a_client_that_went_away(served, monkeypatch, stream):
    left = threading.Event()

    def endless(_answerer, _asked, on_delta, gone):
        on_delta({"index": 0, "delta": {"content": "a"}, "logprobs": None, "finish_reason": None})
        while not gone():
            pass
        left.set()
        return {"choices": [], "usage": {}}

    async def leave(app):
        body = json.dumps(GREEDY | {"stream": stream}).encode()
        given = [{"type": "http.request", "body": body, "more_body": False}]
        first = asyncio.Event()

        async def receive():
            if given:
                return given.pop()
            if stream:
                await first.wait()
            return {"type": "http.disconnect"}

        async def send(_message):
            first.set()

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(), "headers": headers}
        await app({**scope, "scheme": "http", "query_string": b""}, receive, send)

    monkeypatch.setattr(application.chat, "complete", endless)
    with ThreadPoolExecutor(1) as compute:
        asyncio.run(leave(create_app(served, compute)))
        assert left.wait(20)


def test_nothing_more_is_written_when_nobody_waits(served):
    asked = ChatRequest(messages=MESSAGES, max_tokens=50)
    written = complete(served[0].answerer, asked, lambda _: None, lambda: True)
    assert written["usage"]["completion_tokens"] == 1


def test_an_error_in_the_middle_of_a_stream_is_its_last_chunk(serve, monkeypatch):
    def break_off(_answerer, _asked, on_delta, _gone):
        on_delta({"index": 0, "delta": {"content": "a"}, "logprobs": None, "finish_reason": None})
        raise EnvironmentLacks("The memory is full.", "Free some.")

    monkeypatch.setattr(application.chat, "complete", break_off)
    chunks = serve().post(CHAT, json={"messages": MESSAGES, "stream": True}).text.split("\n\n")
    assert json.loads(chunks[-2].removeprefix("data: "))["error"]["message"] == "The memory is full. Free some."


def test_a_name_that_prometheus_must_quote_is_quoted(served):
    named = [Served('여우 "\\', TINY_BASE_ID, served[0].answerer)]
    with ThreadPoolExecutor(1) as compute:
        lines = TestClient(create_app(named, compute), base_url=HERE).get("/metrics").text
    assert f'pkt_adapter_loaded{{adapter="여우 \\"\\\\",base="{TINY_BASE_ID}"}} 1\n' in lines


@NEEDS_BROWSER
def test_a_person_asks_on_the_page_from_a_phone_and_a_name_is_no_markup(served, monkeypatch, browser):
    found = [naming.Candidate("<b>x</b>", 0.75), naming.Candidate("W" * 90, 0.2)]
    monkeypatch.setattr(naming, "identify", lambda answerer, description, top: naming.Identified(description, found))
    with ThreadPoolExecutor(1) as compute:
        app = create_app(served, compute)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none"))
        with running(server) as url:
            tab = browser.new_page(viewport={"width": 390, "height": 800})
            said = []
            tab.on("console", lambda message: said.append(message.text))
            tab.goto(url)
            tab.click("text=Identify")
            tab.wait_for_selector("#answer p:nth-child(2)")
            assert tab.inner_text("#answer").split() == ["75.0", "%<b>x</b>", "20.0", f"%{'W' * 90}"]
            assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert said == []
            tab.select_option("#model", "two")
            tab.fill("#description", " ")
            tab.click("button[name=name]")
            tab.wait_for_selector("#answer p:text('The description is empty')")
            tab.close()
