"""Push a dataset, publish an adapter and its Space: prepare the folder, upload it, check it, show it.

A folder is a repository. A new one is private while it is filled and checked, and public once it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolkit import __version__, cards
from toolkit.core.errors import InputError
from toolkit.core.folder import manifest_facts, read_json, read_manifest, write_json
from toolkit.core.hub_client import DEFAULT_ENDPOINT, endpoint
from toolkit.core.layout import ADAPTER_CONFIG, ENCODER, EVALUATION, TINY_BASE_ID, VALIDATION
from toolkit.data.card import write_card
from toolkit.data.validation import Report, validate
from toolkit.hub import upload
from toolkit.hub.contents import check_intact, contents, edited_cards, rewrite
from toolkit.hub.remote import Remote, base_on_hub, cards_edited_there, dataset_on_hub, read_remote
from toolkit.hub.space.folder import write_space
from toolkit.hub.upload import Plan
from toolkit.hub.upload import Published as Published
from toolkit.hub.verify import verify_or_raise
from toolkit.model import adapter as adapters
from toolkit.model import base as bases
from toolkit.model.encoder import is_encoder

# Titles of commits and pull requests. They name no folder, since a commit cannot be taken back.
TITLES = {kind: f"{kind.capitalize()} and card from pkt" for kind in ("dataset", "adapter", ENCODER)}
SPACE_TITLE = "The page of an adapter, from pkt"
BASE_TITLE = "The tiny base of PokePicker Toolkit"


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to publish a dataset or an adapter.

    Attributes:
        private: Whether only its owner sees it in the end; None: a new one becomes public, others stay as they are.
        tag: A name for this state, such as `v1`.
        create_pr: Open a pull request instead of committing to the main branch.
        overwrite_card: Render cards anew that somebody edited by hand, here or on the Hub.
        force: Of a dataset: push it although it fails validation; its card then says so.
        dataset_repo: Of an adapter, as all below: the published dataset that it was trained on.
        base_repo: The Hub id of its base, where it was trained on the same base under another name.
        templates: A folder of card templates that replace those of the toolkit.
        space: Also publish a page to try it, as this Space; its folder is written beside the adapter's.
    """

    private: bool | None = None
    tag: str | None = None
    create_pr: bool = False
    overwrite_card: bool = False
    force: bool = False
    dataset_repo: str | None = None
    base_repo: str | None = None
    templates: Path | None = None
    space: str | None = None

    def __post_init__(self) -> None:
        if self.create_pr and (self.tag or self.space or self.private is not None):
            raise InputError(
                "A pull request has no tag, no visibility and no Space.",
                "Leave out `create_pr`, or `tag`, `private` and `space`.",
            )

    def refuse(self, kind: str, *names: str) -> None:
        """Raise InputError when options are given that a publication of this kind would ignore."""
        given = [f"`{name}`" for name in names if getattr(self, name)]
        if given:
            raise InputError(f"Publishing {kind} does not use {', '.join(given)}.", "Leave it out.")


Check = Callable[[str, str], object]
"""`check(repo_id, revision)` raises CheckFailed when a repository is not what its card says, as `verify_or_raise`."""


def prepare_dataset(folder: str | Path, repo_id: str, options: PublishOptions = PublishOptions()) -> Plan:
    """Validate a dataset folder again, write the findings and the card into it, and compare it with the repository.

    Raises:
        InputError: Not a dataset folder, one that fails validation or must not be published, not a Hub id, or an option
            for adapters.
        HubError: The repository holds somebody else's files, or the Hub refused or cannot be reached.
    """
    options.refuse("a dataset", "dataset_repo", "base_repo", "templates", "space")
    folder = Path(folder)
    manifest = read_manifest(folder, "dataset")
    check_intact(folder, "dataset", manifest)
    remote = read_remote(repo_id, "dataset")
    edited = _edited(folder, "dataset", manifest, remote, options.overwrite_card)
    facts = manifest_facts(manifest)
    report: Report | None = None

    def render(fresh: Path) -> None:
        if report is not None:
            write_json(fresh / VALIDATION, report.to_json())
        write_card(fresh, facts)

    if edited or options.overwrite_card:
        # The card is validated too, so it is written first.
        rewrite(folder, "dataset", manifest, facts, edited, render)
    report = validate(folder)
    if not report.ok and not options.force:
        codes = ", ".join(finding.code for finding in report.findings if finding.severity == "error")
        raise InputError(
            f"{folder} does not pass validation ({codes}).",
            f"Look at it with `pkt validate {folder}`, or push it as it is with `force`.",
        )
    stated = folder / VALIDATION
    if not stated.is_file() or read_json(stated) != report.to_json():
        rewrite(folder, "dataset", manifest, facts, edited, render)
    return _plan(folder, "dataset", remote, options, _kept(edited))


def push_dataset(folder: str | Path, repo_id: str, options: PublishOptions = PublishOptions()) -> Published:
    """Upload a dataset folder in one commit, or nothing when the repository already holds the same files.

    Raises:
        InputError, HubError: As `prepare_dataset`; HubError also when somebody changed the repository meanwhile.
        EnvironmentLacks: The Hub requires a token.
    """
    return upload_and_show(prepare_dataset(folder, repo_id, options), options, TITLES["dataset"])


def push_tiny_base() -> Published:
    """Upload the tiny base under the id that adapters trained on it name."""
    planned = upload.plan(read_remote(TINY_BASE_ID, "base"), contents(bases.tiny_base_folder(), "base"))
    return upload_and_show(planned, PublishOptions(), BASE_TITLE)


def prepare_adapter(folder: str | Path, repo_id: str, options: PublishOptions = PublishOptions()) -> Plan:
    """Write the names and commits of repository, base and dataset into an adapter folder, and compare it with the Hub.

    The card, `adapter_config.json` and the manifest then are what will be published. Nothing is uploaded. An encoder
    holds all of its weights: its base need not be on the Hub.

    Raises:
        InputError: Not an evaluated adapter or encoder folder, one that must not be published, base or dataset are not
            those that it was trained on, not a Hub id, or an option for another kind.
        HubError, EnvironmentLacks: Base or dataset are not on the Hub, a repository holds somebody else's files, or the
            Hub refused.
    """
    folder, templates = Path(folder), options.templates
    kind = ENCODER if is_encoder(folder) else "adapter"
    options.refuse(f"an {kind}", "force", *(("base_repo", "space") if kind == ENCODER else ()))
    if options.space:
        read_remote(options.space, "space")
    manifest = read_manifest(folder, kind)
    if not (folder / EVALUATION).is_file():
        raise InputError(
            f"{folder} was never evaluated, so its card would hold no figures.", "Run `pkt evaluate` first."
        )
    check_intact(folder, kind, manifest)
    if kind != ENCODER and adapters.adapter_changes_nothing(folder):
        raise InputError(f"The adapter in {folder} answers as its base does: it learnt nothing.", "Train it again.")
    remote = read_remote(repo_id, kind)
    base = manifest["base"] if kind == ENCODER else base_on_hub(folder, manifest["base"], options.base_repo)
    notes: list[str] = []
    dataset = manifest["dataset"]
    if options.dataset_repo:
        dataset, notes = dataset_on_hub(options.dataset_repo, dataset)
    if "card_templates" in manifest and templates is None:
        notes.append("The card was made with your own templates, and now with the toolkit's; `templates` keeps them.")
    facts = {**manifest_facts(manifest), "base": base, "dataset": dataset, "repo_id": repo_id}
    facts["recipe"] = {**manifest["recipe"], "base": base["id"]}
    facts["public_hub"] = endpoint() == DEFAULT_ENDPOINT
    facts = cards.with_templates(facts, templates)

    def render(fresh: Path) -> None:
        if kind != ENCODER:
            named = {"base_model_name_or_path": base["id"], "revision": base["revision"]}
            write_json(fresh / ADAPTER_CONFIG, read_json(fresh / ADAPTER_CONFIG) | named)
        cards.render_model_card(fresh, facts, repo_id, templates, plots=manifest.get("toolkit") != __version__)

    edited = _edited(folder, kind, manifest, remote, options.overwrite_card)
    rewrite(folder, kind, manifest, facts, edited, render)
    return _plan(folder, kind, remote, options, notes + _kept(edited))


def publish(
    adapter: str | Path, repo_id: str, options: PublishOptions = PublishOptions(), *, verify: bool | Check = True
) -> Published:
    """Publish an evaluated adapter or encoder folder in one commit: private at first, public once it was verified.

    Args:
        verify: Whether to call `verify_or_raise` on what is new before others see it, or what to call instead.

    Raises:
        As `prepare_adapter`; HubError also when somebody changed the repository meanwhile, CheckFailed by `verify`.
    """
    check = verify if callable(verify) else verify_or_raise if verify else None
    title = TITLES[ENCODER if is_encoder(adapter) else "adapter"]
    published = upload_and_show(prepare_adapter(adapter, repo_id, options), options, title, check)
    if options.space is None:
        return published
    folder = Path(adapter).resolve()
    return publish_space(published, options.space, folder.with_name(f"{folder.name}-space"), options.private)


def publish_space(published: Published, repo_id: str, folder: Path, private: bool | None = None) -> Published:
    """Write the page of a published adapter as a Space's folder, and publish that in one commit; errors as above."""
    remote = read_remote(repo_id, "space")
    write_space(published.repo_id, published.revision, folder)
    planned = upload.plan(remote, contents(folder, "space"))
    done = upload_and_show(planned, PublishOptions(private), SPACE_TITLE)
    return replace(published, space=done.url, notes=published.notes + done.notes)


def upload_and_show(planned: Plan, options: PublishOptions, title: str, check: Check | None = None) -> Published:
    """Upload, check, tag and make public; finish what an earlier call began."""
    remote, private = planned.remote, options.private
    make_public, begun = _is_to_become_public(planned, private), upload.unfinished(planned.remote)
    with upload.publication_note(remote, public=make_public):
        if private and remote.revision and not remote.private:
            upload.set_private(remote, True)
        done = upload.upload(planned, title)
        if check is not None and (done.changed or begun or make_public):
            check(remote.repo_id, done.revision)
        if options.tag:
            upload.put_tag(remote, options.tag, done.revision)
        if make_public:
            upload.set_private(remote, False)
            if remote.revision:
                done.notes.append(f"{remote.repo_id} is public now.")
    hidden = not make_public and (remote.private or private is True)
    if hidden and private is None and not planned.proposes:
        done.notes.append(f"{remote.repo_id} was private and stays so; `private=False` shows it to everybody.")
    return replace(done, private=hidden, tag=options.tag)


def _is_to_become_public(planned: Plan, private: bool | None) -> bool:
    """Whether to make the repository public when it is whole and checked. A pull request does not.

    | It is   | `private=None`                      | `False` | `True` |
    |---------|-------------------------------------|---------|--------|
    | new     | yes                                 | yes     | no     |
    | private | if an unfinished publication was to | yes     | no     |
    | public  | no need                             | no need | no     |
    """
    remote = planned.remote
    if remote.revision is None:
        return private is not True
    if private is None:
        return remote.private and not planned.proposes and upload.unfinished(remote).get("public") is True
    return remote.private and not private


def _plan(folder: Path, kind: str, remote: Remote, options: PublishOptions, notes: list[str]) -> Plan:
    planned = upload.plan(remote, contents(folder, kind), notes)
    if options.tag:
        upload.check_tag(planned, options.tag)
    return upload.plan_pull_request(planned, TITLES[kind]) if options.create_pr else planned


def _edited(folder: Path, kind: str, manifest: Mapping[str, Any], remote: Remote, overwrite: bool) -> dict[str, bytes]:
    """The cards that somebody edited by hand, here or on the Hub, unless they are to be overwritten."""
    if overwrite:
        return {}
    there = cards_edited_there(remote, kind)
    here = edited_cards(kind, manifest, lambda card: (folder / card).read_bytes() if (folder / card).exists() else None)
    for name in here.keys() & there.keys():
        if here[name] != there[name]:
            raise InputError(
                f"{name} was edited by hand in {folder} and, differently, in {remote.repo_id}.",
                f"Put what you want into {folder / name} and on the Hub, or give `overwrite_card`.",
            )
    return there | here


def _kept(edited: Mapping[str, bytes]) -> list[str]:
    return [
        f"{name} was edited by hand and is kept as it is; `overwrite_card` renders it anew from the folder's files."
        for name in edited
    ]
