"""Commands that answer one description: name, identify."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.group import Command, hub_options, json_option, main, start


def adapter_option(command: Command) -> Command:
    """`--adapter`."""
    return click.option("--adapter", required=True, metavar="FOLDER|REPO_ID", help="The adapter that answers.")(command)


@main.command()
@click.argument("description")
@adapter_option
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 100), help="How many names.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    help="The same seed draws the same names.",
)
@hub_options
@json_option
def name(
    description: str, adapter: str, count: int, seed: int, endpoint: str | None, token_file: Path | None, as_json: bool
) -> None:
    """Invent names for the creature in DESCRIPTION."""
    start(endpoint, token_file)
    from toolkit import model, naming, show

    show.names(naming.name(model.locate_adapter(adapter), description, count, seed), as_json)


@main.command()
@click.argument("description")
@adapter_option
@click.option("--top", default=5, show_default=True, type=click.IntRange(1, 100), help="How many candidates.")
@hub_options
@json_option
def identify(
    description: str, adapter: str, top: int, endpoint: str | None, token_file: Path | None, as_json: bool
) -> None:
    """Say which of the creatures that the adapter learnt DESCRIPTION is about."""
    start(endpoint, token_file)
    from toolkit import model, naming, show

    show.candidates(naming.identify(model.locate_adapter(adapter), description, top), as_json)
