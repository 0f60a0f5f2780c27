"""Push and publish: what goes to a Hub. A folder is a repository: it is uploaded as it is.

A new repository is private while it is filled and checked, and public only when it is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit import cards
from toolkit.core.errors import InputError
from toolkit.core.folder import atomic_folder, manifest_facts, read_json, read_manifest, write_json
from toolkit.core.hub_client import DEFAULT_ENDPOINT, hub
from toolkit.core.layout import ADAPTER_CONFIG, TINY_BASE_ID, VALIDATION
from toolkit.data.counts import write_card
from toolkit.data.validation import validate
from toolkit.hub import resume, upload
from toolkit.hub.contents import CARDS, check_intact, contents, edited_cards, write_publication_manifest
from toolkit.hub.outside import unread_by_strangers
from toolkit.hub.references import base_on_hub, dataset_on_hub
from toolkit.hub.remote import Remote, cards_edited_there, look, page_of
from toolkit.hub.space import write_space
from toolkit.hub.upload import Plan
from toolkit.model import adapter as adapters
from toolkit.model import base as bases

# What commits and pull requests are called. No name of a folder is in them: what is committed can not be taken back.
DATASET_TITLE = "Dataset and card from pkt"
ADAPTER_TITLE = "Adapter and card from pkt"
SPACE_TITLE = "The page of an adapter, from pkt"
BASE_TITLE = "The tiny base of PokePicker Toolkit"


@dataclass(frozen=True, slots=True)
class Options:
    """How something is published.

    Attributes:
        private: Whether it is private in the end; None: a new repository becomes public, another stays as it is.
        tag: A name for this state, such as `v1`.
        pull_request: Open a pull request instead of committing to the main branch.
        overwrite_card: Render cards anew that somebody edited by hand, here or on the Hub.
    """

    private: bool | None = None
    tag: str | None = None
    pull_request: bool = False
    overwrite_card: bool = False

    def __post_init__(self) -> None:
        if self.pull_request and (self.tag or self.private is not None):
            raise InputError("A pull request has no tag and no visibility.", "Leave --create-pr or the other away.")


@dataclass(frozen=True, slots=True)
class Published:
    """Where something now is.

    Attributes:
        repo_id: The repository.
        revision: Its commit.
        url: The address of its page.
        changed: Whether anything had to be uploaded.
        private: Whether only its owner sees it.
        tag: The tag that was asked for.
        pull_request: The address of the pull request that holds it.
        space: The address of the page to try it.
        notes: What the user had better know.
    """

    repo_id: str
    revision: str
    url: str
    changed: bool
    private: bool = False
    tag: str | None = None
    pull_request: str | None = None
    space: str | None = None
    notes: list[str] = field(default_factory=list)


# Looks at a repository at a commit, and raises CheckFailed when it is not what its card says.
Check = Callable[[str, str], None]


def plan_dataset(folder: Path, repo_id: str, options: Options = Options(), *, force: bool = False) -> Plan:
    """Make a dataset folder say what the validator finds now, and compare it with the repository.

    Args:
        force: Go on although it fails validation; its card then says so.

    Raises:
        InputError: Not a dataset folder, one that fails validation or must not be published, or not a Hub id.
        HubError: The repository holds somebody else's files, or the Hub refused or can not be reached.
    """
    manifest = read_manifest(folder, "dataset")
    check_intact(folder, "dataset", manifest)
    remote = look(repo_id, "dataset")
    edited = {} if options.overwrite_card else _edited(folder, "dataset", manifest, remote)
    facts = manifest_facts(manifest)
    if edited or options.overwrite_card:
        # A card is part of what is validated, so it is settled first.
        _write(folder, "dataset", manifest, edited, lambda fresh: _render_dataset(fresh, facts))
    report = validate(folder)
    if not report.ok and not force:
        codes = ", ".join(finding.code for finding in report.findings if finding.severity == "error")
        raise InputError(
            f"{folder} does not pass validation ({codes}).",
            f"Look at it with `pkt validate {folder}`, or push it as it is with --force.",
        )
    stated = folder / VALIDATION
    if not stated.is_file() or read_json(stated) != report.to_json():
        _write(folder, "dataset", manifest, edited, lambda fresh: _render_dataset(fresh, facts, report.to_json()))
    return _plan(folder, "dataset", remote, options, DATASET_TITLE, _kept(edited))


def _render_dataset(fresh: Path, facts: dict[str, Any], report: dict[str, Any] | None = None) -> dict[str, Any]:
    """Render a dataset's card, with a new validation report when one is given."""
    if report is not None:
        write_json(fresh / VALIDATION, report)
    write_card(fresh, facts)
    return facts


def push_dataset(
    folder: Path, repo_id: str, options: Options = Options(), *, force: bool = False, check: Check | None = None
) -> Published:
    """Upload a dataset folder in one commit; nothing is uploaded when the repository already holds the same files.

    Raises:
        InputError, HubError: As `plan_dataset`; HubError also when somebody changed the repository meanwhile.
        EnvironmentLacks: The Hub wants a token.
    """
    planned = plan_dataset(folder, repo_id, options, force=force)
    return _carry_out(planned, options, DATASET_TITLE, check)


def push_tiny_base() -> Published:
    """Upload the tiny base to the Hub under the id that adapters trained on it name."""
    planned = upload.plan(look(TINY_BASE_ID, "base"), contents(bases.tiny_base_folder(), "base"))
    return _carry_out(planned, Options(), BASE_TITLE, None)


def plan_publication(
    folder: Path,
    repo_id: str,
    options: Options = Options(),
    *,
    dataset_repo: str | None = None,
    base_repo: str | None = None,
    templates: Path | None = None,
) -> Plan:
    """Make an adapter folder say where it will be published, and compare it with the repository. Nothing is uploaded.

    The card, `adapter_config.json` and the manifest then name the repository, the base at its commit and the dataset at
    its commit, so that what is looked at is what is published.

    Args:
        dataset_repo: The published dataset that it was trained on.
        base_repo: The Hub id of its base, where it was trained on the same base under another name.
        templates: A folder of card templates that stand in for those of the toolkit.

    Raises:
        InputError: Not an evaluated adapter folder, one that must not be published, or base or dataset are not those
            that it was trained on.
        HubError, EnvironmentLacks: Base or dataset are not on the Hub, or the Hub refused.
    """
    manifest = read_manifest(folder, "adapter")
    if not (folder / "evaluation.json").is_file():
        raise InputError(
            f"{folder} was never evaluated, so its card would hold no figures.", "Run `pkt evaluate` first."
        )
    check_intact(folder, "adapter", manifest)
    if adapters.adapter_changes_nothing(folder):
        raise InputError(f"The adapter in {folder} answers as its base does: it learnt nothing.", "Train it again.")
    remote = look(repo_id, "adapter")
    base = base_on_hub(folder, manifest["base"], base_repo)
    dataset: Mapping[str, Any] = manifest["dataset"]
    notes: list[str] = []
    if dataset_repo is not None:
        dataset, notes = dataset_on_hub(dataset_repo, dataset)
    if "card_templates" in manifest and templates is None:
        notes.append(
            "The card was made with templates of your own, and is made with the toolkit's now; --template keeps them."
        )
    facts = {**manifest_facts(manifest), "base": base, "dataset": dataset, "repo_id": repo_id}
    facts["recipe"] = {**manifest["recipe"], "base": base["id"]}
    facts["public_hub"] = hub().endpoint == DEFAULT_ENDPOINT
    facts = cards.with_templates(facts, templates)

    def render(fresh: Path) -> dict[str, Any]:
        config = json.loads((fresh / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        named = {"base_model_name_or_path": base["id"], "revision": base["revision"]}
        write_json(fresh / ADAPTER_CONFIG, config | named)
        cards.render_model_card(fresh, facts, repo_id, templates)
        return facts

    edited = {} if options.overwrite_card else _edited(folder, "adapter", manifest, remote)
    _write(folder, "adapter", manifest, edited, render)
    return _plan(folder, "adapter", remote, options, ADAPTER_TITLE, notes + _kept(edited))


def publish(
    folder: Path,
    repo_id: str,
    options: Options = Options(),
    *,
    dataset_repo: str | None = None,
    base_repo: str | None = None,
    templates: Path | None = None,
    check: Check | None = None,
) -> Published:
    """Publish an evaluated adapter in one commit: private at first, public once it was checked.

    Args:
        dataset_repo, base_repo, templates: As for `plan_publication`.
        check: Called with the repository and its commit when there is anything new to check; without it a new
            repository is public as soon as it holds what was sent.

    Raises:
        As `plan_publication`; HubError also when somebody changed the repository meanwhile, CheckFailed by the check.
    """
    planned = plan_publication(
        folder, repo_id, options, dataset_repo=dataset_repo, base_repo=base_repo, templates=templates
    )
    return _carry_out(planned, options, ADAPTER_TITLE, check)


def check_space(repo_id: str) -> None:
    """Raise what `publish_space` would raise of a Space, before the adapter that it shows is published.

    Raises:
        InputError: Not a Hub id.
        HubError: The repository holds somebody else's files, or the Hub refused.
    """
    look(repo_id, "space")


def publish_space(published: Published, repo_id: str, folder: Path, options: Options = Options()) -> Published:
    """Write the page of a published adapter as a Space's folder, and publish that in one commit.

    Args:
        published: The adapter, at the commit that the page shows.
        repo_id: The Space.
        folder: Where its folder is written.
        options: Of which the visibility counts.

    Raises:
        InputError: Not a Hub id, or the folder holds something else.
        HubError: The repository holds somebody else's files, somebody changed it meanwhile, or the Hub refused.
    """
    remote = look(repo_id, "space")
    write_space(published.repo_id, published.revision, folder)
    planned = upload.plan(remote, contents(folder, "space"))
    done = _carry_out(planned, Options(private=options.private), SPACE_TITLE, None)
    return replace(published, space=done.url, notes=published.notes + done.notes)


def _write(
    folder: Path,
    kind: str,
    manifest: Mapping[str, Any],
    edited: Mapping[str, bytes],
    render: Callable[[Path], dict[str, Any]],
) -> None:
    """Write a folder again as it is published, with the cards that somebody edited in place of the rendered ones."""
    with atomic_folder(folder, kind) as fresh:
        shutil.copytree(folder, fresh, dirs_exist_ok=True)
        before = set(_names(fresh))
        facts = render(fresh)
        named = {*manifest["files"], *CARDS[kind], *(name for name in _names(fresh) if name not in before)}
        write_publication_manifest(fresh, kind, facts, named, edited)


def _kept(edited: Mapping[str, bytes]) -> list[str]:
    return [
        f"{name} was edited by hand and is kept as it is; --overwrite-card renders it anew from the folder's files."
        for name in edited
    ]


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _edited(folder: Path, kind: str, manifest: Mapping[str, Any], remote: Remote) -> dict[str, bytes]:
    """The cards that were edited by hand, here or on the Hub."""
    here, there = edited_cards(folder, kind, manifest), cards_edited_there(remote, kind)
    for name in here.keys() & there.keys():
        if here[name] != there[name]:
            raise InputError(
                f"{name} was edited by hand in {folder} and, otherwise, in {remote.repo_id}.",
                f"Put what you want into {folder / name} and on the Hub, or give --overwrite-card.",
            )
    return there | here


def _plan(folder: Path, kind: str, remote: Remote, options: Options, title: str, notes: list[str]) -> Plan:
    planned = upload.plan(remote, contents(folder, kind), notes)
    if options.tag:
        upload.check_tag(planned, options.tag)
    return upload.propose(planned, title) if options.pull_request else planned


def _carry_out(planned: Plan, options: Options, message: str, check: Check | None) -> Published:
    """Upload, check, tag, show to everybody and read as they do, in this order; what was begun before is finished."""
    remote = planned.remote
    name = (remote.repo_id, remote.repo_type)
    begun = remote.revision is not None and resume.begun(*name)
    opened = False
    unsaid = options.private is None and not planned.proposes
    opening = options.private is False or (unsaid and (remote.revision is None or resume.becomes_public(*name)))
    with resume.publication(*name, public=opening):
        if options.private and remote.revision is not None and not remote.private:
            upload.set_private(remote, True)
        uploaded = upload.upload(planned, message)
        is_private = options.private is True or remote.private or remote.revision is None
        if check is not None and (uploaded.changed or begun or (opening and is_private)):
            check(remote.repo_id, uploaded.revision)
        if options.tag:
            upload.put_tag(remote, options.tag, uploaded.revision)
        if opening and is_private:
            upload.set_private(remote, False)
            is_private, opened = False, True
    notes = [*planned.notes, *uploaded.notes]
    if not is_private and not planned.proposes and (opened or uploaded.changed):
        unread = unread_by_strangers(remote, uploaded.revision, planned.files)
        notes += [unread] if unread else []
    if is_private and unsaid:
        notes.append(f"{remote.repo_id} was private and stays so; --public shows it to everybody.")
    return Published(
        remote.repo_id,
        uploaded.revision,
        page_of(remote),
        uploaded.changed,
        is_private,
        options.tag,
        uploaded.pull_request,
        notes=notes,
    )
