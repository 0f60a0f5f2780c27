"""Completion in a shell: what each word may become, and that the scripts are whole."""

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from toolkit import cli


def completed(line):
    """What Click gives a shell for the last word of a line, as `type,value`."""
    words = line.split(" ")
    environment = {"_PKT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return CliRunner().invoke(cli.main, [], prog_name="pkt", env=environment).output.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pkt eva", ["plain,evaluate"]),
        ("pkt train --quanti", ["plain,--quantization"]),
        ("pkt train --quantization n", ["plain,nf4", "plain,none"]),
        ("pkt train --recipe smol", ["file,smol", "plain,smollm2-135m"]),
        ("pkt run smol", ["file,smol", "plain,smollm2-135m"]),
        ("pkt train my", ["dir,my"]),
        ("pkt evaluate my", ["dir,my"]),
        ("pkt name --adapter my", ["dir,my"]),
    ],
)
def test_a_word_becomes(line, words):
    assert completed(line) == words


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_a_shell_reads_its_script(shell, check, tmp_path):
    script = tmp_path / "pkt"
    script.write_text(CliRunner().invoke(cli.main, ["completion", shell]).output)
    assert f"_PKT_COMPLETE={shell}_complete" in script.read_text()
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    result = subprocess.run([shell, check, script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_a_command_in_its_own_words_and_imports_nothing_heavy(tmp_path):
    program = tmp_path / "pkt"
    heavy = "torch", "transformers", "pyarrow", "rich"
    program.write_text(
        f"#!{sys.executable}\nimport atexit, sys\nfrom toolkit import cli\n"
        f"atexit.register(lambda: print(*(name for name in {heavy} if name in sys.modules), file=sys.stderr))\n"
        "cli.main()\n"
    )
    program.chmod(0o755)
    asked = 'eval "$(pkt completion bash)"; COMP_WORDS=(pkt build); COMP_CWORD=1; _pkt_completion pkt; echo $COMPREPLY'
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False, env=environment)
    assert (result.stdout, result.stderr.split()) == ("build-dataset\n", [])
