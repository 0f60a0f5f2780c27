"""What is published, what would be, and what was verified, on the terminal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from toolkit.cli.output.terminal import CONSOLE, as_json, program, say

# What an upload does to a file, in the order in which it matters.
STATES = {
    "new": "new",
    "changed": "changed",
    "deleted": "would be deleted",
    "kept": "not pkt's, stays",
    "same": "same",
}
SHOWN = 10


def published(result: Any, json_wanted: bool, *, train_from_it: bool = False) -> None:
    """Something that is on a Hub now; of a dataset also how to train from it."""
    if json_wanted:
        as_json(asdict(result))
        return
    for note in result.notes:
        say(note)
    if result.pull_request:
        say(f"{result.pull_request} waits for whoever may merge it, at revision {result.revision}.")
        return
    seen = " (private)" if result.private else ""
    tag = f", tagged {result.tag}" if result.tag else ""
    say(f"{result.url}{seen} {'is at' if result.changed else 'was already at'} revision {result.revision}{tag}.")
    if result.space:
        say(f"The page to try it is {result.space}.")
    if train_from_it:
        say(f"Train from it with `{program()} train {result.repo_id} OUT --dataset-revision {result.revision}`.")


def would_publish(plan: Any, folder: Path, json_wanted: bool) -> None:
    """What a publication would upload, file by file, and where the card lies that it would have."""
    remote = plan.remote
    if json_wanted:
        changes = [asdict(change) for change in plan.changes]
        as_json(
            {
                "repo_id": remote.repo_id,
                "revision": remote.revision,
                "private": remote.private,
                "pull_request": plan.pull_request.url if plan.pull_request else None,
                "files": changes,
                "left": plan.left,
                "notes": plan.notes,
                "card": str(folder / "README.md"),
            }
        )
        return
    table = Table(Column("bytes", justify="right"), "", Column("file", overflow="fold"), box=None, pad_edge=False)
    for state, label in STATES.items():
        for change in plan.of(state):
            table.add_row(
                f"{change.size:,}", label, Text(change.name), style="dim" if state in ("same", "kept") else ""
            )
    CONSOLE.print(table)
    if plan.left:
        more = f" and {len(plan.left) - SHOWN} more" if len(plan.left) > SHOWN else ""
        say(f"stays here, since no step wrote it for others: {', '.join(plan.left[:SHOWN])}{more}")
    for note in plan.notes:
        say(note)
    say(f"The card as it would be published is {folder / 'README.md'}. Look at it with `{program()} preview {folder}`.")
    say(_outcome(plan))


def _outcome(plan: Any) -> str:
    remote, sent, deleted = plan.remote, plan.of("new", "changed"), len(plan.of("deleted"))
    if plan.unchanged:
        there, holds = remote.repo_id, "holds all of it already"
        if plan.pull_request is not None:
            there, holds = f"Your pull request {plan.pull_request.url}", "proposes exactly this already"
        return f"{there} {holds}, at revision {remote.revision}. Nothing was uploaded."
    there = f"at {remote.revision[:12]}" if remote.revision else "which does not exist yet"
    gone = f" and {_files(deleted)} would be deleted" if deleted else ""
    size = sum(change.size for change in sent)
    return f"{_files(len(sent))} ({size:,} bytes) would go to {_target(plan)}, {there}{gone}. Nothing was uploaded."


def _target(plan: Any) -> str:
    if plan.pull_request is not None:
        return f"your pull request {plan.pull_request.url}"
    return f"a new pull request for {plan.remote.repo_id}" if plan.proposes else str(plan.remote.repo_id)


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def verified(result: Any, json_wanted: bool) -> None:
    """A verification, its verdict last."""
    if json_wanted:
        as_json({**asdict(result), "ok": result.ok})
        return
    for difference in result.differences:
        CONSOLE.print(Text(f"✗ {difference}", style="red"), soft_wrap=True)
    for note in result.notes:
        CONSOLE.print(Text(f"· {note}"), soft_wrap=True)
    if result.printed:
        say("The card's own code ran and printed:")
        CONSOLE.print(Padding(Text(result.printed), (0, 0, 0, 2)))
    count = len(result.differences)
    outcome = "reproduced" if result.ok else f"{count} difference{'s' * (count != 1)}"
    say(f"{result.repo_id} at {result.revision[:12]}: {result.files} files, {result.samples} samples: {outcome}.")
