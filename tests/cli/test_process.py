"""What the command line does to its process: how threads wait, and what an answer does not import."""

import gc
import logging
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from toolkit import cli
from toolkit.cli import process


@pytest.mark.parametrize(
    ("command", "busy", "chosen", "then"),
    [
        ("name", 0.0, None, "PASSIVE"),
        ("name", 0.0, "ACTIVE", "ACTIVE"),
        ("train", 0.0, None, None),
        ("train", 1.5, None, "PASSIVE"),
        ("train", 1.5, "ACTIVE", "ACTIVE"),
        ("validate", 1.5, None, None),
    ],
)
def test_threads_sleep_for_an_answer_and_beside_busy_programs_unless_the_user_chose(
    monkeypatch, command, busy, chosen, then
):
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(process, "busy_cores", lambda: busy)
    process.prepare(command, verbose=True)
    assert os.environ.get("OMP_WAIT_POLICY") == then


def test_a_command_prepares_its_process_before_it_chooses_a_hub(monkeypatch):
    done = []
    monkeypatch.setattr(process, "prepare", lambda command, verbose: done.append((command, verbose)))
    monkeypatch.setattr("toolkit.core.hub_client.use_hub", lambda *_: done.append("hub"))
    assert CliRunner().invoke(cli.main, ["--verbose", "train", "no/folder/here", "out"]).exit_code == 2
    assert done == [("train", True), "hub"]


ANSWERING = """
import sys
from toolkit.cli import process
with process.quick_imports(without=process.UNUSED):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
    from transformers.models.gemma3 import modeling_gemma3
    from transformers.generation import utils
print(*(name for name, module in sys.modules.items() if module is not None))
"""


def test_an_answer_imports_nothing_that_it_never_uses():
    command = [sys.executable, "-c", ANSWERING]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "peft" in loaded
    # The fixture for all tests empties the tuple in this process.
    unused = {"bitsandbytes", "datasets", "pandas", "scipy", "sklearn"}
    assert not loaded & {*unused, "matplotlib", "torch._inductor.compile_fx"}


def test_garbage_is_collected_again_after_the_imports_and_what_is_loaded_stays(monkeypatch):
    module = sys.modules["json"]
    monkeypatch.delitem(sys.modules, "no_such_library", raising=False)

    def fail():
        with process.quick_imports(without=("json", "no_such_library")):
            assert not gc.isenabled()
            raise OSError("x")

    try:
        with pytest.raises(OSError, match="x"):
            fail()
        assert gc.isenabled()
        assert sys.modules["json"] is module
        assert sys.modules.pop("no_such_library") is None
    finally:
        gc.unfreeze()


def test_what_the_toolkit_logs_is_said():
    said = []
    process.show_log(said.append)
    logging.getLogger("toolkit").info("Downloading the base %s: %s.", "a/b", "2 GB")
    process.show_log(lambda _: None)
    assert said == ["Downloading the base a/b: 2 GB."]
