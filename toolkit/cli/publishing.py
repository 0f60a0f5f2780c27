"""Commands about what is published: publish, verify."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from toolkit.cli.group import PATH, hub_options, json_option, main, start


@main.command()
@click.argument("adapter", type=PATH)
@click.argument("repo_id")
@click.option("--dataset-repo", metavar="REPO_ID", help="The published dataset that it was trained on, for the card.")
@click.option("--private", is_flag=True, help="Make the repository private when it is created.")
@click.option("--dry-run", is_flag=True, help="Do everything but the upload.")
@hub_options
@json_option
def publish(
    adapter: Path,
    repo_id: str,
    dataset_repo: str | None,
    private: bool,
    dry_run: bool,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Publish the evaluated folder ADAPTER on the Hub as REPO_ID, with its card, in one commit."""
    start(endpoint, token_file)
    from toolkit import hub, show

    if dry_run:
        hub.prepare_publication(adapter, repo_id, dataset_repo)
        show.would_publish(adapter, repo_id, hub.publication_files(adapter), as_json)
    else:
        show.published(hub.publish(adapter, repo_id, dataset_repo=dataset_repo, private=private), as_json)


@main.command()
@click.argument("repo_id")
@click.option("--revision", help="Commit, branch or tag. Default: the newest commit.")
@hub_options
@json_option
def verify(repo_id: str, revision: str | None, endpoint: str | None, token_file: Path | None, as_json: bool) -> None:
    """Load the published adapter REPO_ID in a clean process and reproduce its card's samples.

    Exits 1 when they differ.
    """
    start(endpoint, token_file)
    from toolkit import show, verify

    result = verify.verify(repo_id, revision)
    show.verified(result, as_json)
    sys.exit(0 if result.ok else 1)
