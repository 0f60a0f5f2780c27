"""A process that answers imports no more than it takes, except for a base that needs it."""

import gc
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from toolkit import cli
from toolkit.cli import process
from toolkit.core.layout import TINY_BASE_ID
from toolkit.model import adapter as adapters
from toolkit.model import base as bases

keep_out = process.keep_out
LOADED = "print(*(name for name, module in sys.modules.items() if module is not None))"
ANSWERING = f"""
import sys
from toolkit.cli import process as lean
from toolkit.model import naming
lean.keep_out(lean.UNUSED_IN_ANSWERS)
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.models.gemma3 import modeling_gemma3
from transformers.generation import utils
{LOADED}
"""
TRAINING = f"""
import sys
from toolkit.cli import process as lean
from toolkit.training import train
lean.keep_out(lean.UNUSED_IN_TRAINING)
import bitsandbytes, peft, pyarrow.parquet
from transformers import PrinterCallback, Trainer
{LOADED}
"""


def loaded_by(script):
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(printed.split())


def test_what_is_never_used_stays_out_of_a_process_that_answers():
    loaded = loaded_by(ANSWERING)
    assert "peft" in loaded
    assert not loaded & {*process.UNUSED_IN_ANSWERS, "matplotlib", "torch._inductor.compile_fx"}


def test_what_is_never_used_stays_out_of_a_process_that_trains():
    loaded = loaded_by(TRAINING)
    assert {"bitsandbytes", "transformers.trainer"} <= loaded
    assert not loaded & {*process.UNUSED_IN_TRAINING, "pandas", "matplotlib"}


def test_what_is_loaded_already_stays(monkeypatch):
    module = sys.modules["json"]
    monkeypatch.delitem(sys.modules, "no_such_library", raising=False)
    keep_out(("json", "no_such_library"))
    assert sys.modules["json"] is module
    assert sys.modules.pop("no_such_library") is None


@pytest.mark.parametrize(("chosen", "then"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_asleep_unless_the_user_chose_otherwise(monkeypatch, chosen, then):
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    process.wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == then


def test_garbage_is_collected_again_afterwards():
    def fail():
        with process.no_collecting():
            assert not gc.isenabled()
            raise OSError("x")

    try:
        with pytest.raises(OSError, match="x"):
            fail()
        assert gc.isenabled()
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "gemma3_text"}, False),
        ({"quantization_config": {"load_in_4bit": True}}, True),
        ([], True),
        (None, True),
    ],
)
def test_a_base_that_is_stored_quantised_or_not_here_keeps_its_libraries(tmp_path, monkeypatch, config, expected):
    (tmp_path / "base").mkdir()
    if config is not None:
        (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(bases, "tiny_base_folder", lambda: tmp_path / "base")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": TINY_BASE_ID}))
    assert adapters.may_be_quantized(tmp_path) is expected


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"base_model_name_or_path": 3}', '{"base_model_name_or_path": "../x"}']
)
def test_nothing_is_known_of_the_base_of_a_damaged_adapter(tmp_path, text):
    (tmp_path / "adapter_config.json").write_text(text)
    assert adapters.may_be_quantized(tmp_path)


def test_a_base_that_was_never_downloaded_may_be_anything(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/never-downloaded"}')
    assert adapters.may_be_quantized(tmp_path)


@pytest.mark.parametrize(
    ("busy", "chosen", "then"), [(0.0, None, None), (1.5, None, "PASSIVE"), (1.5, "ACTIVE", "ACTIVE")]
)
def test_threads_wait_asleep_beside_other_programs_that_are_busy(monkeypatch, busy, chosen, then):
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(process, "busy_cores", lambda: busy)
    process.wait_beside_others()
    assert os.environ.get("OMP_WAIT_POLICY") == then


def test_busy_cores_are_some_of_those_that_are_there():
    assert 0 <= process.busy_cores() <= os.cpu_count()


def test_a_command_looks_at_what_others_do(monkeypatch, tmp_path):
    looked = []
    monkeypatch.setattr(process, "wait_beside_others", lambda: looked.append(1))
    assert CliRunner().invoke(cli.main, ["train", str(tmp_path), str(tmp_path / "out")]).exit_code == 2
    assert looked
