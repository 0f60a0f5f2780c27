"""The command that merges an adapter into its base."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.group import PATH, hub_options, json_option, main, start


@main.command()
@click.argument("adapter")
@click.argument("out", type=PATH)
@click.option("--revision", help="Commit, branch or tag of an ADAPTER on the Hub. Default: its newest commit.")
@click.option(
    "--dtype",
    default="bfloat16",
    show_default=True,
    type=click.Choice(["bfloat16", "float16", "float32"]),
    help="Of the merged weights.",
)
@hub_options
@json_option
def merge(
    adapter: str,
    out: Path,
    revision: str | None,
    dtype: str,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Merge ADAPTER, a folder or a Hub id, into its base and write one plain model to the folder OUT.

    For those who serve without peft. The result is loaded by transformers alone and compared with the adapter on its
    samples; exits 1, and writes nothing, when more than a quarter of their greedy names differ.
    """
    start(endpoint, token_file)
    from toolkit.cli import output
    from toolkit.model import adapter as adapters
    from toolkit.model import merge

    with output.counting() as count:
        result = merge.merge(adapters.locate_adapter(adapter, revision), out, dtype, count=count)
    output.merged(result, as_json)
