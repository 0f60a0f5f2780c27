"""Commands about what is published: publish, verify."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from toolkit.cli.group import PATH, hub_options, json_option, main, publish_options, start


@main.command()
@click.argument("adapter", type=PATH)
@click.argument("repo_id")
@click.option("--dataset-repo", metavar="REPO_ID", help="The published dataset that it was trained on, for the card.")
@click.option("--base-repo", metavar="REPO_ID", help="The base on this Hub, where it was trained under another name.")
@click.option(
    "--template", "templates", type=PATH, metavar="FOLDER", help="Your own card templates, in place of the toolkit's."
)
@click.option("--space", metavar="REPO_ID", help="Also publish a page to try it, as the Space REPO_ID.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Check it before others see it.")
@publish_options
@hub_options
@json_option
def publish(
    adapter: Path,
    repo_id: str,
    dataset_repo: str | None,
    base_repo: str | None,
    space: str | None,
    templates: Path | None,
    verify: bool,
    private: bool | None,
    tag: str | None,
    create_pr: bool,
    overwrite_card: bool,
    dry_run: bool,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Publish the evaluated folder ADAPTER on the Hub as REPO_ID, with its card, in one commit.

    A new repository is private until it was verified from outside. When it is interrupted, the same command finishes
    it; when nothing changed, nothing is uploaded.
    """
    start(endpoint, token_file)
    from toolkit.cli import output
    from toolkit.hub import publish as hub
    from toolkit.hub import verify as verification

    options = hub.Options(private, tag, create_pr, overwrite_card)
    named = {"dataset_repo": dataset_repo, "base_repo": base_repo, "space": space}
    if dry_run:
        plan = hub.prepare_adapter(adapter, repo_id, options, **named, templates=templates)
        output.would_publish(plan, adapter, as_json)
        return

    def check(repo_id: str, revision: str) -> None:
        output.say(f"{repo_id} is uploaded. Verifying it in a clean process ...")
        output.verified(verification.check(repo_id, revision), False)

    published = hub.publish(adapter, repo_id, options, **named, templates=templates, check=check if verify else None)
    output.published(published, as_json)


@main.command()
@click.argument("repo_id")
@click.option("--revision", help="Commit, branch or tag. Default: the newest commit.")
@hub_options
@json_option
def verify(repo_id: str, revision: str | None, endpoint: str | None, token_file: Path | None, as_json: bool) -> None:
    """Load the published adapter REPO_ID in a clean process, and check what its card says.

    Every file is compared with its hash, the cards with their files; the samples are reproduced, and the card's own
    code is run. Exits 1 when something differs.
    """
    start(endpoint, token_file)
    from toolkit.cli import output
    from toolkit.hub import verify

    result = verify.verify(repo_id, revision)
    output.verified(result, as_json)
    sys.exit(0 if result.ok else 1)
