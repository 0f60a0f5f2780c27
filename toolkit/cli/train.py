"""Commands that make an adapter, measure it, and take it elsewhere: train, evaluate, merge, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import options
from toolkit.cli.group import main
from toolkit.cli.options import PATH
from toolkit.core.errors import InputError
from toolkit.core.layout import DEFAULT_BASELINES, DTYPES, GGUF_TYPES, HELD_OUT

if TYPE_CHECKING:
    from toolkit.cli.output import Output
    from toolkit.core.workers import EngineName


@main.command()
@click.argument("dataset", shell_complete=options.folders)
@click.argument("out", type=PATH)
@options.dataset_revision
@options.recipe()
@options.resume
@click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    help="Share the training among N processes of this machine, each with a GPU where there are any, with the same "
    "result. Default: 1, or those that torchrun started.",
)
@click.option(
    "--shard",
    is_flag=True,
    help="Divide the base among the processes (FSDP), for one that is large beside a GPU. On GPUs give "
    "--micro-batch-size too: memory is not searched.",
)
@options.hub_and_json
@click.pass_obj
def train(
    output: Output,
    /,
    dataset: str,
    out: Path,
    dataset_revision: str | None,
    recipe: str,
    resume: bool,
    processes: int | None,
    shard: bool,
    **settings: object,
) -> None:
    """Fine-tune an adapter on DATASET, a folder or a Hub id, and write it to the folder OUT.

    The same command continues an interrupted training. A finished adapter in OUT is replaced only by --restart.

    With --task identify, fine-tune a sentence encoder instead, by default with the recipe identify-minilm: it
    identifies known creatures and invents no names. It takes minutes, and an interrupted training starts over.
    """
    if settings["task"] == "identify" and recipe == "demo":
        recipe = "identify-minilm"
    loaded = options.load(recipe, settings)
    from toolkit.cli import results
    from toolkit.data.dataset import locate_dataset
    from toolkit.training import encoder, train
    from toolkit.training.processes import in_turns, joined, launch, started

    several = processes or started()
    if (several > 1 or shard) and loaded.task == "identify":
        raise InputError("A sentence encoder is trained by one process.", "Leave `processes` and `shard` out.")
    if started() not in (1, several):
        raise InputError(f"torchrun started {started()} processes, and not {several}.", "Leave `processes` out.")
    if several > started():
        # Checked before anything is started.
        locate_dataset(dataset, dataset_revision)
        sys.exit(launch(sys.argv[1:], several))
    if loaded.task == "identify":
        located = locate_dataset(dataset, dataset_revision)
        with output.counting() as count:
            result = encoder.train_encoder(located, out, loaded, restart=not resume, progress=count, note=output.say)
        results.trained(output, result, None if HELD_OUT.isdisjoint(located.files()) else dataset)
        return
    with joined(), output.training() as progress:
        located = in_turns(lambda: locate_dataset(dataset, dataset_revision))
        result = train.train(located, out, loaded, restart=not resume, shard=shard, progress=progress, note=output.say)
    results.trained(output, result, None if HELD_OUT.isdisjoint(located.files()) else dataset)


@main.command()
@click.argument("adapter", shell_complete=options.folders)
@click.argument("dataset", shell_complete=options.folders)
@options.dataset_revision
@options.revision("an ADAPTER")
@options.base
@click.option(
    "--baselines",
    default=",".join(DEFAULT_BASELINES),
    show_default=True,
    help="Methods to compare with, comma-separated. Also: encoder, which needs sentence-transformers.",
)
@click.option("--encoder", metavar="FOLDER|ID", help="Model of the baseline `encoder`.")
@click.option(
    "--against",
    multiple=True,
    metavar="FOLDER|REPO_ID",
    shell_complete=options.folders,
    help="Another adapter to compare with. May be repeated.",
)
@click.option(
    "--output",
    "folder",
    type=PATH,
    help="Folder for the report. Default: ADAPTER. Needed for an ADAPTER on the Hub or of another trainer.",
)
@options.templates
@options.recipe(default=None)
@options.resume
@options.engine
@options.hub_and_json
@click.pass_obj
def evaluate(
    output: Output,
    /,
    adapter: str,
    dataset: str,
    dataset_revision: str | None,
    revision: str | None,
    base: str | None,
    baselines: str,
    encoder: str | None,
    against: tuple[str, ...],
    folder: Path | None,
    templates: Path | None,
    recipe: str | None,
    resume: bool,
    engine: EngineName,
    **settings: object,
) -> None:
    """Measure ADAPTER and its baselines on DATASET, and write figures, predictions and the card into its folder.

    DATASET is a folder or a Hub id. ADAPTER is a folder, or with --output also a Hub id. The same command continues an
    interrupted evaluation. ADAPTER may also be the folder of an encoder (`pkt train --task identify`).
    """
    from toolkit.cli import results
    from toolkit.data.dataset import locate_dataset
    from toolkit.evaluation import evaluate

    located = evaluate.locate_evaluated(adapter, folder, revision)
    loaded = options.load(recipe or evaluate.own_recipe(located, folder), settings)
    with output.counting() as count:
        result = evaluate.evaluate(
            located,
            locate_dataset(dataset, dataset_revision),
            recipe=loaded,
            baselines=[name.strip() for name in baselines.split(",") if name.strip()],
            against=against,
            encoder=encoder,
            base=base,
            output=folder,
            templates=templates,
            restart=not resume,
            engine=engine,
            progress=count,
            note=output.say,
        )
    results.evaluated(output, result)


@main.command()
@click.argument("adapter", shell_complete=options.folders)
@click.argument("out", type=PATH)
@options.revision("an ADAPTER")
@options.base
@click.option(
    "--dtype",
    default=DTYPES[0],
    show_default=True,
    type=click.Choice(DTYPES),
    help="Dtype of the merged weights.",
)
@options.hub_and_json
@click.pass_obj
def merge(output: Output, /, adapter: str, out: Path, revision: str | None, base: str | None, dtype: str) -> None:
    """Merge ADAPTER, a folder or a Hub id, into its base and write one plain model to the folder OUT.

    The model can be served without peft. It is loaded by transformers alone and compared with the adapter on its
    samples; exits 1, and writes nothing, when more than a quarter of their greedy names differ.
    """
    from toolkit.cli import results
    from toolkit.model import merge

    with output.counting() as count:
        result = merge.merge(adapter, out, dtype, count, revision=revision, base=base)
    results.merged(output, result)


@main.command()
@click.argument("adapter")
@click.argument("out", type=PATH)
@options.revision("an ADAPTER")
@options.base
@click.option("--to", "_format", default="gguf", show_default=True, type=click.Choice(["gguf"]), help="Format.")
@click.option(
    "--type",
    type=click.Choice(GGUF_TYPES),
    help=f"Type of the merged weights; q4_k_m needs llama.cpp's llama-quantize. Default: {GGUF_TYPES[0]}.",
)
@click.option("--lora", is_flag=True, help="Write the adapter alone, for a GGUF file of its base.")
@click.option(
    "--check/--no-check", default=True, show_default=True, help="Compare names and log-likelihoods with the adapter's."
)
@options.hub_and_json
@click.pass_obj
def export(
    output: Output,
    /,
    adapter: str,
    out: Path,
    revision: str | None,
    base: str | None,
    _format: str,
    type: str | None,
    lora: bool,
    check: bool,
) -> None:
    """Write ADAPTER, a folder or a Hub id, as a GGUF file for llama.cpp, Ollama and LM Studio to the folder OUT.

    It is merged into its base; a Modelfile for Ollama and a card stand beside it. llama.cpp reads it and has to make
    the tokens of the training; its greedy names and log-likelihoods of names are compared on the adapter's samples.
    Exits 1, and writes nothing, when they differ by more than the type explains. Needs the extra `export`.
    """
    from toolkit.cli import results
    from toolkit.model import export

    with output.counting() as count:
        result = export.export(adapter, out, type, lora=lora, check=check, progress=count, revision=revision, base=base)
    results.exported(output, result)
