"""A process that serves: it starts, finishes what it began, and ends."""

import json
import signal
import socket
import stat
import subprocess
import sys

import httpx2
import pytest

from support.adapters import put_on
from toolkit.core.errors import InputError
from toolkit.core.layout import ANSWERS
from toolkit.model import naming
from toolkit.serving.serve import serve

SERVER = """
import pathlib, sys
from toolkit import cli
from toolkit.model import base as bases
base = pathlib.Path(sys.argv.pop(1))
bases.tiny_base_folder = lambda: base
cli.main(sys.argv[1:])
"""
LONG = {"messages": [{"role": "user", "content": "A fox."}], "max_tokens": 300, "temperature": 0, "stream": True}


@pytest.fixture
def adapter(tmp_path, small_base, use_small_base):
    folder = put_on(tmp_path / "fox", small_base, target_modules=["q_proj", "down_proj"])
    (folder / ANSWERS).write_text('["Squirtle", "Vulpix"]')
    return folder


def is_busy(url):
    return httpx2.get(f"{url}/health", trust_env=False).json()["queue"] > 0


def test_a_signal_lets_what_runs_finish_and_a_client_that_goes_stops_its_own_alone(adapter, small_base):
    command = [sys.executable, "-c", SERVER, str(small_base), "serve", str(adapter), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        ready = process.stderr.readline()
        url = ready.split()[2].rstrip(".")
        with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
            with client.stream("POST", "/v1/chat/completions", json=LONG | {"max_tokens": 490}) as left:
                next(left.iter_lines())
            while is_busy(url):
                pass
            found = client.post("/v1/identify", json={"description": "A fox.", "model": "fox"}).json()
            assert {each["name"] for each in found["candidates"]} == {"Squirtle", "Vulpix"}
            with client.stream("POST", "/v1/chat/completions", json=LONG) as stream:
                lines = stream.iter_lines()
                next(lines)
                process.send_signal(signal.SIGTERM)
                said = [line for line in lines if line]
        assert said[-1] == "data: [DONE]"
        assert json.loads(said[-2].removeprefix("data: "))["choices"][0]["finish_reason"] in ("length", "stop")
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(url.removeprefix("http://").split(":"))


def test_a_second_signal_ends_at_once():
    code = (
        "import uvicorn\nfrom toolkit.serving.serve import _Server\nserver = _Server(uvicorn.Config(None))\n"
        "server.handle_exit(15, None)\nprint(server.should_exit, flush=True)\nserver.handle_exit(15, None)\nprint('on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "True\n")


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(naming, "open_adapters", lambda *_, **__: pytest.fail("the adapter was loaded"))


def test_two_adapters_of_one_name_are_refused(tmp_path, nothing_is_loaded):
    folders = [tmp_path / "a" / "fox", tmp_path / "b" / "fox"]
    for folder in folders:
        folder.mkdir(parents=True)
    with pytest.raises(InputError, match=r"Two adapters are called fox\. Rename"):
        serve(folders)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "some.example"])
def test_other_machines_are_not_served_without_a_key(tmp_path, nothing_is_loaded, host):
    with pytest.raises(InputError, match=r"without a key\. Name a file for one as `api_key_file`"):
        serve([tmp_path], host=host)


def test_a_key_is_made_for_its_owner_only_and_kept(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise InputError("No more.", "Enough.")

    monkeypatch.setattr(naming, "open_adapters", stop)
    file, keys = tmp_path / "key", set()
    for _ in range(2):
        with pytest.raises(InputError, match="No more"):
            serve([tmp_path], host="0.0.0.0", port=0, api_key_file=file)
        keys.add(file.read_text())
    assert len(keys) == 1
    assert len(keys.pop()) > 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("")
    with pytest.raises(InputError, match="holds no single token"):
        serve([tmp_path], port=0, api_key_file=file)
