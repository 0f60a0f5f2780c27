"""A smoke run against the public Hub: publish to a private repository, verify, edit its card, publish again, delete.

    hf auth login                      # a token with write access
    python tests/end_to_end/real_hub.py YOUR-NAME FOLDER

FOLDER is an evaluated adapter whose base is on the public Hub; `docs/real_hub.md` says what to look at. Everything it
makes is private and is deleted at the end, unless `--keep` is given. It says what it found, and exits 1 when something
is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from toolkit.core.errors import CheckFailed, ToolkitError
from toolkit.core.hub_client import hub, use_hub

if TYPE_CHECKING:
    from toolkit.hub.publish import Published

Found = TypeVar("Found")


def main() -> int:
    """Run every step; the repository is deleted whatever happens."""
    options = _options()
    use_hub()
    from huggingface_hub.constants import HF_HUB_DISABLE_XET

    from toolkit.hub import publish as publishing
    from toolkit.hub import verify

    repo_id = f"{options.owner}/pkt-smoke-{int(time.time())}"
    private = publishing.PublishOptions(private=True)
    publish = partial(publishing.publish, verify=False)
    steps = Steps()
    print(f"{hub().endpoint}, {repo_id}, xet {'off' if HF_HUB_DISABLE_XET else 'on'}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(options.folder, Path(place) / "adapter"))
        try:
            steps.take("plan", lambda: len(publishing.prepare_adapter(folder, repo_id, private).of("new")))
            first = steps.take("publish, private, one commit", lambda: publish(folder, repo_id, private))
            steps.take("nothing changed, no commit", lambda: _unchanged(publish(folder, repo_id, private)))
            steps.take("one commit, however it was transferred", lambda: _one_commit(repo_id))
            steps.take("what the Hub says of its files", lambda: _scanned(repo_id))
            steps.take("what the Hub made of the card", lambda: _card(repo_id))
            steps.take("verify", lambda: verify.verify_or_raise(repo_id, first.revision if first else None).printed)
            steps.take("tag", lambda: publish(folder, repo_id, replace(private, tag="v0")).tag)
            steps.take("edit the card on the Hub", lambda: _edit(repo_id))
            steps.take("it is kept", lambda: publish(folder, repo_id, private).notes)
            steps.take("a pull request, and no second one", lambda: _proposed(folder, repo_id))
        finally:
            if not options.keep:
                hub().delete_repo(repo_id, missing_ok=True)
    return 1 if steps.failed else 0


class Steps:
    """Takes steps one after the other, and counts those that failed."""

    def __init__(self) -> None:
        self.failed = 0

    def take(self, what: str, step: Callable[[], Found]) -> Found | None:
        """Take a step and say what came of it and how long it took."""
        begun = time.monotonic()
        try:
            found = step()
        except ToolkitError as error:
            self.failed += 1
            print(f"FAILED  {what}: {error}")
            return None
        print(f"ok      {what} ({time.monotonic() - begun:.1f} s): {found}")
        return found


def _unchanged(published: Published) -> str:
    if published.changed:
        raise CheckFailed("A commit was made although nothing had changed.", "See its page.")
    return published.revision


def _one_commit(repo_id: str) -> list[str]:
    titles = [commit.title for commit in hub().list_repo_commits(repo_id)]
    if len(titles) != 2:  # that of the empty repository, and ours
        raise CheckFailed(f"There are {len(titles)} commits: {', '.join(titles)}.", "See its page.")
    return titles


def _scanned(repo_id: str) -> str:
    """What the Hub's scanners say; they take some minutes, so they may not know yet."""
    return str(hub().model_info(repo_id, securityStatus=True).security_repo_status)


def _card(repo_id: str) -> dict[str, object]:
    info = hub().model_info(repo_id)
    data = vars(info.card_data) if info.card_data else {}
    shown = {key: data.get(key) for key in ("base_model", "license", "pipeline_tag", "library_name")}
    return {**shown, "results": len(data.get("eval_results") or ())}


def _edit(repo_id: str) -> str:
    text = Path(hub().hf_hub_download(repo_id, "README.md")).read_text(encoding="utf-8")
    edited = f"{text}\nEdited by hand.\n".encode()
    return str(hub().upload_file(path_or_fileobj=edited, path_in_repo="README.md", repo_id=repo_id).oid)


def _proposed(folder: Path, repo_id: str) -> str | None:
    """Propose the same twice; the second time there is nothing to upload, and it is the same pull request."""
    from toolkit.hub import publish as publishing

    request = publishing.PublishOptions(create_pr=True, overwrite_card=True)
    first, second = (publishing.publish(folder, repo_id, request, verify=False) for _ in range(2))
    if first.pull_request is None:
        raise CheckFailed("No pull request was opened, although the card differs.", "See its page.")
    if (second.pull_request, second.changed) != (first.pull_request, False):
        raise CheckFailed(f"{first.pull_request} was followed by {second.pull_request}.", "See the page.")
    return first.pull_request


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("owner", help="your name on the Hub, or an organisation that you may write to")
    parser.add_argument("folder", type=Path, help="an evaluated adapter")
    parser.add_argument("--keep", action="store_true", help="do not delete the repository at the end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
