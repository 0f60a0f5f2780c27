"""Evaluation by part: `evaluate` of the embedded corpus, adapter and base, beside the loop that one writes first.

Processor seconds, on one thread, of ranking, likeliest names and sampled names. The plain loop, by transformers and
peft, reads prompt and candidate together, sixteen at a time, and generates row by row; it is taken on a few rows and
multiplied. On the tiny base with an adapter made here; or on `--base` and an `--adapter` that was trained on it, since
what a model answers decides how long generating takes.
`python benchmarks/evaluate.py [--base FOLDER] [--adapter FOLDER] [--rounds 3]`
"""

import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import torch
from first_answer import make_adapter
from peft import PeftModel
from rank_candidates import separate_passes
from transformers import AutoModelForCausalLM, AutoTokenizer

import toolkit
from toolkit.core.folder import read_manifest
from toolkit.core.recipe import load_recipe
from toolkit.data.dataset import locate_dataset
from toolkit.evaluation.predictions import SAMPLED_TEST_ROWS, read_rows
from toolkit.model import base as bases
from toolkit.model import memory, rank

PARTS = ("nearest", "identify", "answer", "sample", "new", "fit")


@click.command(context_settings={"show_default": True})
@click.option("--base", type=click.Path(path_type=Path, exists=True), help="A real base [default: the tiny one].")
@click.option("--adapter", type=click.Path(path_type=Path, exists=True), help="Of that base [default: made here].")
@click.option("--rounds", default=1)
@click.option("--rows", type=int, help="Rows of test, and of unseen [default: all, and 40].")
@click.option("--plain-rows", default=2, help="Rows that the plain loop is taken on.")
def main(base: Path | None, adapter: Path | None, rounds: int, rows: int | None, plain_rows: int) -> None:
    """Evaluate, then take the plain loop on a few rows, in turn; print the seconds of both by part."""
    torch.set_num_threads(1)
    base = base or bases.tiny_base_folder()
    runs: dict[str, list[dict[str, float]]] = {"pkt": [], "plain": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        adapter = adapter or make_adapter(folder / "adapter", base)
        changes = {"evaluation.max_test": rows, "evaluation.max_unseen": rows or 40}
        recipe = load_recipe(read_manifest(adapter, "adapter")["recipe"], changes)
        toolkit.build_dataset(folder / "dataset", "demo")
        read = read_rows(locate_dataset(str(folder / "dataset")), recipe.evaluation)
        for number in range(rounds):
            runs["pkt"].append(evaluated(adapter, base, recipe, folder, folder / str(number)))
            peak = memory.peak_memory_bytes()
            # As somebody else's process begins.
            torch.set_float32_matmul_precision("highest")
            runs["plain"].append(plain_loop(adapter, base, recipe, read, plain_rows))
    click.echo(
        f"{len(read.test)} rows of test and {len(read.unseen)} of unseen, {len(read.candidates)} candidates; "
        f"peak memory of `evaluate` {peak / 2**20:,.0f} MiB\n\n"
        f"| processor seconds | pkt | plain loop, from {plain_rows} rows | plain / pkt |\n|---|---:|---:|---:|"
    )
    for part in runs["pkt"][0]:
        ours, plain = ([run.get(part, 0.0) for run in taken] for taken in runs.values())
        both = f"{spread(plain)} | {spread([b / a for a, b in zip(ours, plain, strict=True)])}" if any(plain) else "| "
        click.echo(f"| {part} | {spread(ours)} | {both} |")


def evaluated(adapter, base, recipe, folder, output):
    """Processor seconds of `evaluate` by model and part, the first one with loading the model, of all else, in all."""
    took: Counter[str] = Counter()
    last = started = time.process_time()

    def note(task, _done, _of):
        nonlocal last
        now = time.process_time()
        took[task if task.partition(": ")[2] in PARTS else "all else"] += now - last
        last = now

    toolkit.evaluate(adapter, folder / "dataset", recipe=recipe, base=str(base), output=output, progress=note)
    took["all else"] += time.process_time() - last
    return {**took, "in all": time.process_time() - started}


def plain_loop(adapter, base, recipe, read, count):
    """Processor seconds of the same by a loop over the first rows, in proportion to all rows."""
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
    candidates = rank.encode_answers(tokenizer, read.candidates)
    asked = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
    prompts = [tokenizer.apply_chat_template(row["messages"][:-1], **asked) for row in read.test[:count]]
    decoding, names = recipe.decoding, recipe.evaluation.names_per_description
    draw = {"do_sample": True, "temperature": decoding.temperature, "top_k": decoding.top_k, "top_p": decoding.top_p}
    rows, unseen = len(read.test), len(read.unseen)

    def generate(prompt, **how):
        model.generate(**prompt, max_new_tokens=decoding.max_new_tokens, pad_token_id=0, **how)

    def seconds(work, of):
        started = time.process_time()
        with torch.inference_mode():
            for prompt in prompts:
                work(prompt)
        return (time.process_time() - started) * of / len(prompts)

    def parts(method, sampled):
        return {
            f"{method}: identify": seconds(
                lambda prompt: separate_passes(model, prompt["input_ids"][0].tolist(), candidates), rows
            ),
            f"{method}: answer": seconds(lambda prompt: generate(prompt, do_sample=False), rows + unseen),
            f"{method}: sample": seconds(lambda prompt: generate(prompt, num_return_sequences=names, **draw), sampled),
        }

    took = parts("adapter", min(rows, SAMPLED_TEST_ROWS) + unseen)
    with model.disable_adapter():
        took |= parts("base", unseen)
    return took | {"in all": sum(took.values())}


def spread(seconds):
    """Median, and the range in brackets."""
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})"


if __name__ == "__main__":
    main()
