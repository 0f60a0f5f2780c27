"""From pressing Enter to the first answer: `pkt name` and `pkt identify` beside the plain peft code of a card.

Whole processes, in turn, each on an adapter of the tiny base (one made here, or `--adapter`). Prints the seconds until
the first line and the processor's seconds, which other programs disturb less, as medians; each way as a ratio of the
plain code; and the share of the imports, from one more run that Python times itself.
`python benchmarks/first_answer.py [--rounds 5] [--threads 2] [--adapter FOLDER]`
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import click

from toolkit.core.folder import read_jsonl, write_manifest
from toolkit.core.layout import ADAPTER_CONFIG, ANSWERS, TINY_BASE_ID
from toolkit.core.recipe import load_recipe
from toolkit.model import base as bases
from toolkit.model import chat, loading, saving

DESCRIPTION = "A small fox with a tail of blue flame."
IMPORT = re.compile(r"import time:\s+(\d+) \|")
PLAIN = """
import sys
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder, request, description = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
messages = [{"role": "user", "content": request + "\\n\\n" + description}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(
    **inputs.to(model.device), do_sample=True, temperature=0.7, top_k=50, top_p=0.95, max_new_tokens=24
)
print("answer:", tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
"""


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--adapter", type=click.Path(path_type=Path, exists=True), help="An adapter of the tiny base.")
def main(rounds: int, threads: int, adapter: Path | None) -> None:
    """Time the ways in turn and print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        made = adapter or make_adapter(Path(folder) / "adapter")
        ways = commands(made, naming_its_folder(made, Path(folder) / "plain"))
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        if rounds > 1:
            # The first run reads the libraries from the disk and is not counted.
            for command in ways.values():
                timed(command, environment)
        measured: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, command in ways.items():
                measured[way].append(timed(command, environment))
        shares = {way: import_share(command, environment) for way, command in ways.items()}
    for way, times in measured.items():
        walls, cpus = zip(*times, strict=True)
        click.echo(
            f"{way}: first answer {spread(walls)}, processor {spread(cpus)}, imports {shares[way]:.0%}; of plain peft "
            f"{ratio(walls, measured['plain peft'], 0):.2f} (processor {ratio(cpus, measured['plain peft'], 1):.2f})"
        )


def make_adapter(folder: Path) -> Path:
    """An adapter of the tiny base that was not trained, but changes something, with the names of the corpus."""
    base = bases.LocatedBase(TINY_BASE_ID, None, bases.tiny_base_folder())
    recipe = load_recipe("demo")
    peft_model = loading.add_lora(loading.load_base(base, loading.Precision("none", "float32")), recipe.lora, 0)
    for name, parameter in peft_model.named_parameters():
        if ".lora_B." in name:
            parameter.data.fill_(1e-3)
    folder.mkdir()
    saving.save_adapter(peft_model, loading.load_tokenizer(base.path), base, folder)
    names = sorted(row["name_en"] for row in read_jsonl(Path(str(files("toolkit.data.corpus") / "creatures.jsonl"))))
    (folder / ANSWERS).write_text(json.dumps(names), encoding="utf-8")
    write_manifest(folder, "adapter", {"recipe": recipe.model_dump(), "base": {"content": bases.base_hash(base)}})
    return folder


def naming_its_folder(adapter: Path, folder: Path) -> Path:
    """A copy that names the folder of the tiny base, which no Hub is needed for."""
    shutil.copytree(adapter, folder)
    file = folder / ADAPTER_CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    if config["base_model_name_or_path"] != TINY_BASE_ID:
        raise click.BadParameter("not an adapter of the tiny base", param_hint="--adapter")
    config |= {"base_model_name_or_path": str(bases.tiny_base_folder()), "revision": None}
    file.write_text(json.dumps(config), encoding="utf-8")
    return folder


def commands(adapter: Path, plain: Path) -> dict[str, list[str]]:
    """What is run, by its name."""
    asked = [DESCRIPTION, "--adapter", str(adapter)]
    return {
        "pkt name": ["-m", "toolkit", "name", *asked],
        "pkt identify": ["-m", "toolkit", "identify", *asked],
        "plain peft": ["-c", PLAIN, str(plain), chat.REQUEST, DESCRIPTION],
    }


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds until the first line, and the processor's seconds of the whole process."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        line = process.stdout.readline()
        answered = time.perf_counter() - started
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not line.strip():
        raise click.ClickException(f"{command[:3]} gave no answer.")
    return answered, usage.ru_utime + usage.ru_stime


def import_share(command: list[str], environment: dict[str, str]) -> float:
    """The part of a process's time that it spends importing, as `python -X importtime` counts it."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, env=environment, check=True
    )
    return sum(map(int, IMPORT.findall(done.stderr))) / 1e6 / (time.perf_counter() - started)


def spread(seconds) -> str:
    """Median, least and most."""
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f})"


def ratio(seconds, plain, column: int) -> float:
    """The median of the ratios to the plain code in the same round."""
    return statistics.median(mine / theirs[column] for mine, theirs in zip(seconds, plain, strict=True))


if __name__ == "__main__":
    main()
