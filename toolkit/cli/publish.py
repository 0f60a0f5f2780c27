"""Commands about the Hub: push-dataset, publish, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli import options
from toolkit.cli.group import main
from toolkit.cli.options import PATH

if TYPE_CHECKING:
    from toolkit.cli.output import Output


@main.command()
@click.argument("dataset", type=PATH)
@click.argument("repo_id")
@click.option("--force", is_flag=True, help="Push a dataset that fails validation; its card will say so.")
@options.publishing
@options.hub_and_json
@click.pass_obj
def push_dataset(output: Output, /, dataset: Path, repo_id: str, dry_run: bool, **how: Any) -> None:
    """Upload the folder DATASET to the Hub as REPO_ID, in one commit. A dataset that fails validation is refused.

    A new repository is private until everything is uploaded. The same command finishes an interrupted push, and uploads
    nothing when nothing changed.
    """
    from toolkit.cli import results
    from toolkit.hub import publish

    given = publish.PublishOptions(**how)
    if dry_run:
        results.would_publish(output, publish.prepare_dataset(dataset, repo_id, given), dataset)
    else:
        results.published(output, publish.push_dataset(dataset, repo_id, given), train_from_it=True)


@main.command()
@click.argument("adapter", type=PATH)
@click.argument("repo_id")
@click.option("--dataset-repo", metavar="REPO_ID", help="The published dataset that it was trained on, for the card.")
@click.option("--base-repo", metavar="REPO_ID", help="The base on this Hub, where it was trained under another name.")
@options.templates
@click.option("--space", metavar="REPO_ID", help="Also publish a page to try it, as the Space REPO_ID.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Verify it before it becomes public.")
@options.publishing
@options.hub_and_json
@click.pass_obj
def publish(output: Output, /, adapter: Path, repo_id: str, verify: bool, dry_run: bool, **how: Any) -> None:
    """Publish the evaluated folder ADAPTER on the Hub as REPO_ID, with its card, in one commit.

    A new repository is private until it has been verified in a clean process. The same command finishes an interrupted
    publication, and uploads nothing when nothing changed.
    """
    from toolkit.cli import output as terminal
    from toolkit.cli import results
    from toolkit.hub import publish as hub
    from toolkit.hub import verify as verification

    given = hub.PublishOptions(**how)
    if dry_run:
        results.would_publish(output, hub.prepare_adapter(adapter, repo_id, given), adapter)
        return

    def check(repo_id: str, revision: str) -> None:
        output.say(f"{repo_id} is uploaded. Verifying it in a clean process ...")
        results.verified(terminal.Output(), verification.verify_or_raise(repo_id, revision))

    results.published(output, hub.publish(adapter, repo_id, given, verify=verify and check))


@main.command()
@click.argument("repo_id")
@options.revision("the repository")
@options.hub_and_json
@click.pass_obj
def verify(output: Output, /, repo_id: str, revision: str | None) -> None:
    """Load the published adapter REPO_ID in a clean process, and check what its card says.

    Compares every file with its hash and the cards with the figures in the files, reproduces the samples, and runs the
    card's own code. Exits 1 when something differs.
    """
    from toolkit.cli import results
    from toolkit.hub import verify

    result = verify.verify(repo_id, revision)
    results.verified(output, result)
    sys.exit(0 if result.ok else 1)
