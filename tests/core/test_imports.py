"""Imports of a process that answers once: what it leaves out, and what stays as it was."""

import gc
import subprocess
import sys

import pytest

from toolkit.core import imports

ANSWERING = """
import sys
from toolkit.core import imports
with imports.quick_imports(without=imports.UNUSED):
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
        with imports.quick_imports(without=("json", "no_such_library")):
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
