"""A shell for tests in which `pkt`, `python` and `hf` start at once: each is a fork of a process that has imported all.

Run as a program, this is that process. In it a training takes two steps, few rows are measured, and `pkt verify` finds
no difference: what these do in full, tests of their own try.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import webbrowser

import pytest

# Asks for a fork with its own arguments, folder, environment and files.
CLIENT = """\
#!{python} -ISE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect("{address}")
    request = [os.path.basename(sys.argv[0]), *sys.argv[1:]], os.getcwd(), dict(os.environ)
    socket.send_fds(asked, [json.dumps(request).encode()], [0, 1, 2])
    sys.exit(int(asked.recv(8) or 1))
"""
# `end` stops the servers that were started.
PROGRAMS = ("pkt", "python", "hf", "end")
PORTS = {("hub", "serve"): "8765", ("serve",): "8000"}


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """The folder of the programs, to put first in PATH."""
    folder = tmp_path_factory.mktemp("programs")
    address = folder / "socket"
    for name in PROGRAMS:
        (folder / name).write_text(CLIENT.format(python=sys.executable, address=address))
        (folder / name).chmod(0o755)
    with subprocess.Popen([sys.executable, "-P", __file__, str(address)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield folder
        process.terminate()


def main(address: str) -> None:
    """Fork for each request."""
    prepare()
    children: list[int] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        print("ready", flush=True)
        while True:
            asked, _ = listener.accept()
            message, files, *_ = socket.recv_fds(asked, 1 << 20, 3)
            (program, *arguments), folder, environment = json.loads(message)
            if program == "end":
                for child in children:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                children.clear()
                asked.send(b"0")
            elif child := os.fork():
                children.append(child)
            else:
                for standard, file in enumerate(files):
                    os.dup2(file, standard)
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment)
                answer(asked, program, arguments)
            for file in files:
                os.close(file)
            asked.close()


def prepare() -> None:
    """Import what is slow, and make short what is long."""
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import peft  # noqa: F401
    import uvicorn  # noqa: F401
    from transformers import AutoTokenizer, Gemma3ForCausalLM  # noqa: F401

    from toolkit.core import hub_client
    from toolkit.core.recipe import Recipe
    from toolkit.hub import verify

    validate, use_hub = Recipe.model_validate, hub_client.use_hub

    def short(settings: object) -> Recipe:
        recipe = validate(settings)
        few = {"max_steps": 2, "epochs": None, "batch_size": 8, "micro_batch_size": 8, "contrast": 0.0}
        rows = {"max_test": 5, "max_unseen": 3, "names_per_description": 1}
        update = {"training": recipe.training.model_copy(update=few)}
        return recipe.model_copy(update=update | {"evaluation": recipe.evaluation.model_copy(update=rows)})

    def chosen(*hub: object, **more: object) -> None:
        use_hub(*hub, **more)
        point()

    Recipe.model_validate, hub_client.use_hub = short, chosen
    webbrowser.open = lambda *_, **__: True
    verify.verify = lambda repo_id, revision=None: verify.Verification(
        repo_id, revision or str(hub_client.hub().model_info(repo_id).sha), files=1, samples=1, differences=[]
    )


def point() -> None:
    """What huggingface_hub reads once, when it is imported: which Hub and cache the environment names."""
    from huggingface_hub import constants, hf_api

    constants.ENDPOINT = hf_api.api.endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
    constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    if "HF_HUB_CACHE" in os.environ:
        constants.HF_HUB_CACHE = os.environ["HF_HUB_CACHE"]


def answer(asked: socket.socket, program: str, arguments: list[str]) -> None:
    """Be the program, and say its exit code; a server says 0 when it is ready."""
    import uvicorn

    serve, code = uvicorn.Server.run, 0

    def ready(*server: object, **more: object) -> None:
        # In a thread it runs for itself, to be filled.
        if threading.current_thread() is threading.main_thread():
            asked.send(b"0")
        serve(*server, **more)

    for verb, port in PORTS.items():
        if tuple(arguments[: len(verb)]) == verb and program == "pkt":
            uvicorn.Server.run = ready
            arguments += [] if "--port" in arguments else ["--port", os.environ[f"PORT_{port}"]]
    sys.argv = [program, *arguments]
    try:
        point()
        run(program, arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception:  # noqa: BLE001 (as a program of its own would end)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    asked.send(str(code).encode())
    os._exit(code)


def run(program: str, arguments: list[str]) -> None:
    match program, arguments:
        case "pkt", _:
            from toolkit.cli import main as pkt

            pkt(prog_name="pkt")
        case "hf", _:
            from huggingface_hub.cli.hf import main as hf

            hf()
        case "python", ["-c", code, *_]:
            exec(code, {"__name__": "__main__"})
        case "python", ["-", *_]:
            exec(sys.stdin.read(), {"__name__": "__main__"})
        case _, [file, *_]:
            runpy.run_path(file, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
