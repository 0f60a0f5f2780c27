"""From pressing Enter to the first answer, by `pkt name` and `pkt identify`, and to a second one, by `pkt serve`.

First answers: whole processes, in turn, beside the plain peft code of a card. Prints the seconds until the first line
and the processor's seconds, which other programs disturb less, as medians; each way as a ratio of the plain code; and
the share of the imports, from one more run that Python times itself. Second answers: which of the known creatures it
is, from what has loaded and answered once, beside a plain loop over the candidates. On the tiny base or `--base`.
`python benchmarks/first_answer.py [--rounds 5] [--threads 2] [--base FOLDER] [--adapter FOLDER]`
"""

import json
import os
import random
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
import httpx
from rank_candidates import describe, sample_creature

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
# Seconds of each of several answers by a model that stays loaded.
WARM = """
import sys, time
from pathlib import Path
from toolkit.core.folder import read_json
from toolkit.model import chat, naming, rank
from rank_candidates import separate_passes
{load}
for description in sys.argv[3:]:
    started = time.perf_counter()
    {ask}
    print(time.perf_counter() - started, flush=True)
"""
IDENTIFY = WARM.format(
    load="answerer = naming.open_adapter(sys.argv[1], base=sys.argv[2])", ask="naming.identify(answerer, description)"
)
LOOP = WARM.format(
    load="""
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base = AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype="float32")
model = PeftModel.from_pretrained(base, sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
candidates = rank.encode_answers(tokenizer, read_json(Path(sys.argv[1]) / "answers.json"))
""",
    ask="separate_passes(model, chat.prompt_ids(tokenizer, chat.naming_messages(description)), candidates)",
)
READY = re.compile(r"Ready at (\S+)\.")


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--adapter", type=click.Path(path_type=Path, exists=True), help="Of that base [default: made here].")
@click.option("--base", type=click.Path(path_type=Path, exists=True), help="A real base [default: the tiny one].")
def main(rounds: int, threads: int, adapter: Path | None, base: Path | None) -> None:
    """Time the ways in turn and print the medians."""
    base = base or bases.tiny_base_folder()
    with tempfile.TemporaryDirectory() as folder:
        made = adapter or make_adapter(Path(folder) / "adapter", base)
        # Names the folder of its base, which no Hub is needed for.
        made = naming_its_folder(made, Path(folder) / "copy", base)
        ways = commands(made)
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
        warm = second_answers(made, base, rounds, environment)
    click.echo("| | first answer | processor time | imports | first answer / plain peft |\n|---|---:|---:|---:|---:|")
    for way, times in measured.items():
        walls, cpus = zip(*times, strict=True)
        beside = ratio(walls, measured["plain peft"], 0)
        click.echo(f"| {way} | {spread(walls)} | {spread(cpus)} | {shares[way]:.0%} | {beside:.2f} |")
    click.echo("\n| | second answer |\n|---|---:|")
    for way, answers in warm.items():
        click.echo(f"| {way} | {spread(answers, 3)} |")


def make_adapter(folder: Path, base_folder: Path) -> Path:
    """An adapter of a base that was not trained, but changes something, with the names of the corpus."""
    tiny = base_folder == bases.tiny_base_folder()
    base = bases.LocatedBase(TINY_BASE_ID if tiny else str(base_folder), None, base_folder)
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


def naming_its_folder(adapter: Path, folder: Path, base: Path) -> Path:
    """A copy that names the folder of its base."""
    shutil.copytree(adapter, folder)
    file = folder / ADAPTER_CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": str(base), "revision": None}
    file.write_text(json.dumps(config), encoding="utf-8")
    return folder


def commands(adapter: Path) -> dict[str, list[str]]:
    """What is run, by its name."""
    asked = [DESCRIPTION, "--adapter", str(adapter)]
    return {
        "pkt name": ["-m", "toolkit", "name", *asked],
        "pkt identify": ["-m", "toolkit", "identify", *asked],
        "plain peft": ["-c", PLAIN, str(adapter), chat.REQUEST, DESCRIPTION],
    }


def second_answers(adapter: Path, base: Path, rounds: int, environment: dict[str, str]) -> dict[str, list[float]]:
    """Seconds of each answer after the first, by `pkt serve`, by the function that it calls, and by a plain loop."""
    rng = random.Random(0)
    descriptions = [describe(sample_creature(rng), rng, "caption") for _ in range(rounds + 1)]
    here = environment | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    answers = {"pkt serve": served(adapter, descriptions, environment)[1:]}
    for way, code in {"naming.identify": IDENTIFY, "plain loop": LOOP}.items():
        command = [sys.executable, "-c", code, str(adapter), str(base), *descriptions]
        done = subprocess.run(command, capture_output=True, text=True, env=here, check=True)
        answers[way] = [float(line) for line in done.stdout.splitlines()[1:]]
    return answers


def served(adapter: Path, descriptions: list[str], environment: dict[str, str]) -> list[float]:
    """Seconds from sending each description to a server to having read its answer."""
    command = [sys.executable, "-m", "toolkit", "serve", str(adapter), "--port", "0"]
    answers = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as server:
        url = next(found[1] for line in server.stdout if (found := READY.search(line)))
        for description in descriptions:
            started = time.perf_counter()
            httpx.post(f"{url}/v1/identify", json={"description": description}, timeout=60).raise_for_status()
            answers.append(time.perf_counter() - started)
        server.terminate()
    return answers


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


def spread(seconds, digits=2) -> str:
    """Median, least and most."""
    return f"{statistics.median(seconds):.{digits}f} s ({min(seconds):.{digits}f}-{max(seconds):.{digits}f})"


def ratio(seconds, plain, column: int) -> float:
    """The median of the ratios to the plain code in the same round."""
    return statistics.median(mine / theirs[column] for mine, theirs in zip(seconds, plain, strict=True))


if __name__ == "__main__":
    main()
