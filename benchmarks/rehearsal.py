"""Memory of a step of each shipped recipe on a GPU, rehearsed with fake tensors on none, beside the estimate.

`python benchmarks/rehearsal.py [RECIPE...]`; seconds of a processor for each line.
"""

import click

from toolkit.core.recipe import Recipe, load_recipe, recipe_names
from toolkit.model import memory
from toolkit.model.base import config_of
from toolkit.model.chat import Example
from toolkit.model.doctor import KNOWN
from toolkit.model.loading import Precision
from toolkit.training.rehearsal import rehearse

ANSWER = 5
# What the recipe's GPU computes in: a T4 has no bf16.
COMPUTE = {"gemma-3-1b": "bfloat16", "gemma-2-9b-24gb": "bfloat16", "smollm2-135m": "bfloat16"}


def usual_rows(count: int) -> list[Example]:
    """So many rows of the usual length, that share their opening."""
    shared = memory.TYPICAL_TOKENS - memory.OWN_TOKENS
    own = ([1000 * (row + 1) + token for token in range(memory.OWN_TOKENS)] for row in range(count))
    return [Example([*range(10, 10 + shared), *each], memory.TYPICAL_TOKENS - ANSWER) for each in own]


def line(recipe: Recipe, rows: int, checkpointing: bool) -> str:
    """A line of the table."""
    config, compute = config_of(recipe.base, KNOWN[recipe.base]), COMPUTE.get(recipe.name, "float16")
    held = "none" if recipe.training.quantization == "auto" else recipe.training.quantization
    found = rehearse(config, recipe, Precision(held, compute), usual_rows(rows), checkpointing)
    settings = recipe.training.model_copy(update={"gradient_checkpointing": "on" if checkpointing else "off"})
    asked = recipe.model_copy(update={"training": settings})
    estimate = memory.train_bytes(memory.size_of(config), asked, compute, held, memory.nodes_of(rows))
    figures = (found.held, found.peak, estimate - memory.PROCESS_BYTES)
    how = f"{rows}, checkpoints" if checkpointing else f"{rows}"
    return f"| {recipe.name} | {compute} | {how} | " + " | ".join(f"{count / 1e9:.1f}" for count in figures) + " |"


@click.command()
@click.argument("recipes", nargs=-1)
def main(recipes: tuple[str, ...]) -> None:
    """Print the table."""
    click.echo("| recipe | computed in | rows at once | GB before a step | most within it | estimated |")
    click.echo("|---|---|---:|---:|---:|---:|")
    for recipe in (load_recipe(name) for name in recipes or recipe_names()):
        if recipe.base in KNOWN:
            most = recipe.training.micro_batch_size
            most = recipe.training.batch_size if most == "auto" else most
            for rows, checkpointing in sorted({(1, True), (1, False), (most, False)}):
                click.echo(line(recipe, rows, checkpointing))


if __name__ == "__main__":
    main()
