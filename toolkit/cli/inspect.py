"""The command for adapters and datasets of others: what an adapter is, and what of a row is learnt."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from toolkit.cli import options
from toolkit.cli.group import main
from toolkit.core.errors import HubError, InputError, ToolkitError, after_saying
from toolkit.core.layout import TINY_BASE_ID

if TYPE_CHECKING:
    from toolkit.cli.output import Output
    from toolkit.data.dataset import LocatedDataset


@main.command()
@click.argument("what", metavar="ADAPTER|DATASET", shell_complete=options.folders)
@options.revision("an ADAPTER or a DATASET")
@click.option(
    "--base",
    metavar="ID|FOLDER",
    help=f"Look at it with this base. Default: the one that an ADAPTER names; for a DATASET {TINY_BASE_ID}.",
)
@click.option(
    "--weights/--no-weights",
    default=True,
    show_default=True,
    help="Load the base, to see how its answers change. All else takes only its configuration and tokenizer.",
)
@click.option("--row", type=click.IntRange(min=0), help="Row of a DATASET, counted from 0. Default: 0.")
@click.option("--split", help="Split of the row. Default: the first one.")
@options.hub_and_json
@click.pass_obj
def inspect(
    output: Output,
    /,
    what: str,
    revision: str | None,
    base: str | None,
    weights: bool,
    row: int | None,
    split: str | None,
) -> None:
    """Say what an adapter of any trainer is before you trust it, or show a row of a dataset as tokens.

    Of an ADAPTER, a folder or a Hub id: its settings, tensors, base, tokenizer and template, how far it changes the
    base's answers, what its card claims, and what can be done with it. Exits 1 when it is broken.

    Of a DATASET: its splits, and a row as the base reads it, with the tokens marked that are supervised. A Hub id that
    is both is the adapter, unless --row or --split is given.
    """
    from toolkit.cli import results
    from toolkit.data.inspect import inspect_dataset
    from toolkit.model.inspect import inspect_adapter

    no_adapter = None
    if row is None and split is None:
        try:
            with output.waiting() as progress:
                report = inspect_adapter(what, revision=revision, base=base, weights=weights, progress=progress)
            results.inspected(output, report)
            sys.exit(0 if report.ok else 1)
        except (InputError, HubError) as error:
            no_adapter = error
    found = _dataset(what, revision, no_adapter)
    results.row_shown(output, inspect_dataset(found, base or TINY_BASE_ID, row or 0, split))


def _dataset(what: str, revision: str | None, no_adapter: ToolkitError | None) -> LocatedDataset:
    """The dataset of this name. Where there is none, the error is the adapter's, or both: either may be meant."""
    from toolkit.core.layout import ADAPTER_CONFIG
    from toolkit.data.dataset import locate_dataset

    try:
        with after_saying(no_adapter.found) if no_adapter else nullcontext():
            found = locate_dataset(what, revision)
            if no_adapter is None or not any(found.path.rglob(ADAPTER_CONFIG)):
                found.files()
                return found
    except HubError as no_dataset:
        raise no_adapter or no_dataset from None
    raise no_adapter
