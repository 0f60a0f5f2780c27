"""Push and publish: what goes to a Hub. A folder is a repository: it is uploaded as it is.

Every upload is one commit made of explicit operations, so a reader of the repository never sees half of one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import cards, dataset_card, model, tiny
from toolkit.checks import check_folder
from toolkit.endpoint import DEFAULT_ENDPOINT, hub, hub_errors
from toolkit.errors import HubError, InputError
from toolkit.folder import (
    MANIFEST,
    VALIDATION,
    atomic_folder,
    is_manifest,
    manifest_facts,
    read_json,
    read_manifest,
    sha256_file,
    write_json,
    write_manifest,
)
from toolkit.rows import data_hash

# What an adapter repository may hold. Anything else in the folder (a pickle, a checkpoint) is never uploaded.
ADAPTER_FILES = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "chat_template.jinja",
    "README.md",
    "README.ko.md",
    "figures/*.png",
    "answers.json",
    "evaluation.json",
    "samples.jsonl",
    "training_log.jsonl",
    MANIFEST,
)
# The splits lie in `data/` or, in other layouts, beside the card, as what a build dropped does.
DATASET_FILES = ("README.md", "figures/*.png", "data/*.parquet", "*.parquet", VALIDATION, MANIFEST)
BASE_FILES = ("*.safetensors", "*.json", "chat_template.jinja", "README.md")


@dataclass(frozen=True, slots=True)
class Published:
    """Where something now is: repository id, commit, address of its page, and whether anything had to be uploaded."""

    repo_id: str
    revision: str
    url: str
    changed: bool


def push_dataset(folder: Path, repo_id: str, *, private: bool = False, force: bool = False) -> Published:
    """Upload a dataset folder in one commit; nothing is uploaded when the repository already holds the same files.

    Args:
        force: Upload it although it fails validation, with a card that says so.

    Raises:
        InputError: Not a dataset folder, one that fails validation, or not a Hub id.
        HubError: The repository holds somebody else's files, or the Hub refused or can not be reached.
        EnvironmentLacks: The Hub wants a token.
    """
    manifest = read_manifest(folder, "dataset")
    report = check_folder(folder)
    if not report.ok and not force:
        codes = ", ".join(finding.code for finding in report.findings if finding.severity == "error")
        raise InputError(
            f"{folder} does not pass validation ({codes}).",
            f"Look at it with `pkt validate {folder}`, or push it as it is with --force.",
        )
    _state_validation(folder, manifest, report.to_json())
    return _upload(folder, repo_id, "dataset", DATASET_FILES, f"Dataset from pkt: {folder.absolute().name}", private)


def _state_validation(folder: Path, manifest: dict[str, Any], report: dict[str, Any]) -> None:
    """Make the folder and its card say what the validator finds now, where they say something else."""
    stated = folder / VALIDATION
    if stated.is_file() and read_json(stated) == report:
        return
    with atomic_folder(folder, "dataset") as fresh:
        shutil.copytree(folder, fresh, dirs_exist_ok=True)
        write_json(fresh / VALIDATION, report)
        facts = manifest_facts(manifest)
        dataset_card.render_dataset_card(fresh, facts)
        write_manifest(fresh, "dataset", facts)


def push_tiny_base() -> Published:
    """Upload the tiny base to the Hub under the id that adapters trained on it name."""
    return _upload(tiny.base_folder(), tiny.BASE_ID, "base", BASE_FILES, "The tiny base of PokePicker Toolkit", False)


def prepare_publication(folder: Path, repo_id: str, dataset_repo: str | None = None) -> dict[str, Any]:
    """Make an adapter folder say where it will be published, and check what it refers to. Nothing is uploaded.

    The card, `adapter_config.json` and the manifest then name the repository, the base at its commit and the dataset at
    its commit, so that what is looked at is what is published.

    Raises:
        InputError: Not an evaluated adapter folder, or the published dataset is not the one it was trained on.
        HubError, EnvironmentLacks: Base or dataset are not on the Hub, or the Hub refused.
    """
    manifest = read_manifest(folder, "adapter")
    if not (folder / "evaluation.json").is_file():
        raise InputError(
            f"{folder} was never evaluated, so its card would hold no figures.", "Run `pkt evaluate` first."
        )
    if model.adapter_changes_nothing(folder):
        raise InputError(f"The adapter in {folder} answers as its base does: it learnt nothing.", "Train it again.")
    base = dict(manifest["base"])
    base["revision"] = _base_revision(base["id"], base["revision"])
    dataset = dict(manifest["dataset"])
    if dataset_repo is not None:
        dataset |= {"id": dataset_repo, "revision": _dataset_revision(dataset_repo, dataset)}
    facts = {**manifest_facts(manifest), "base": base, "dataset": dataset, "repo_id": repo_id}
    facts["public_hub"] = hub().endpoint == DEFAULT_ENDPOINT
    with atomic_folder(folder, "adapter") as fresh:
        shutil.copytree(folder, fresh, dirs_exist_ok=True)
        config = json.loads((fresh / "adapter_config.json").read_text(encoding="utf-8"))
        write_json(fresh / "adapter_config.json", config | {"revision": base["revision"]})
        cards.render_model_card(fresh, facts, repo_id)
        write_manifest(fresh, "adapter", facts)
    return facts


def publish(folder: Path, repo_id: str, *, dataset_repo: str | None = None, private: bool = False) -> Published:
    """Publish an evaluated adapter in one commit.

    Raises:
        As `prepare_publication`; HubError also when the repository holds somebody else's files.
    """
    prepare_publication(folder, repo_id, dataset_repo)
    return _upload(folder, repo_id, "adapter", ADAPTER_FILES, "Adapter and card from pkt", private)


def publication_files(folder: Path) -> list[Path]:
    """The files of an adapter folder that publishing uploads."""
    return _allowed(folder, ADAPTER_FILES)


def _base_revision(base: str, revision: str | None) -> str:
    """The base's commit on this Hub; for the tiny base, also that the Hub holds the same weights.

    Every Hub has commits of its own of the tiny base, so one that an earlier publication named says nothing here.
    """
    with hub_errors(f"The base {base}"):
        wanted = None if base == tiny.BASE_ID else revision
        info = hub().model_info(base, revision=wanted, files_metadata=True)
    if base == tiny.BASE_ID:
        there = {file.rfilename: file.lfs.sha256 for file in info.siblings or [] if file.lfs}
        weights = "model.safetensors"
        if there.get(weights) != sha256_file(tiny.base_folder() / weights):
            raise HubError(
                f"The base {base} on the Hub has other weights than the one that comes with pkt.",
                "Update pkt or that base.",
            )
    return str(info.sha)


def _dataset_revision(repo_id: str, trained_on: dict[str, Any]) -> str:
    """The dataset's commit on this Hub, after a check that its data files are those that were trained on."""
    with hub_errors(f"The dataset {repo_id}"):
        info = hub().dataset_info(repo_id)
        there = [file.rfilename for file in info.siblings or []]
        manifest = _manifest_on_hub(repo_id, "dataset", str(info.sha), there)
    if not is_manifest(manifest, "dataset") or not isinstance(manifest.get("files"), dict):
        raise InputError(f"The dataset {repo_id} was not pushed by pkt.", "Push it with `pkt push-dataset`.")
    if data_hash(manifest["files"]) != trained_on["content"]:
        raise InputError(
            f"The dataset {repo_id} is not the one that this adapter was trained on.",
            "Push that dataset, or train again.",
        )
    return str(info.sha)


def _manifest_on_hub(repo_id: str, repo_type: str, revision: str, there: list[str]) -> Any:
    """What a repository's manifest holds; None when it has none, or one that is not JSON."""
    if MANIFEST not in there:
        return None
    file = hub().hf_hub_download(repo_id, MANIFEST, repo_type=repo_type, revision=revision)
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError:
        return None


def _check_own(repo_id: str, repo_type: str, kind: str, revision: str, there: list[str]) -> None:
    """Uploading deletes what is not in the folder, so a repository must be empty or hold what pkt wrote there."""
    files = [name for name in there if name != ".gitattributes"]
    if files and not is_manifest(_manifest_on_hub(repo_id, repo_type, revision, there), kind):
        shown = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
        raise HubError(
            f"The {repo_type} {repo_id} holds files that pkt did not write ({shown}).",
            "Choose another REPO_ID, or empty it first.",
        )


def _upload(folder: Path, repo_id: str, kind: str, allowed: tuple[str, ...], message: str, private: bool) -> Published:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    api = hub()
    repo_type = "dataset" if kind == "dataset" else "model"
    files = {path.relative_to(folder).as_posix(): path for path in _allowed(folder, allowed)}
    with hub_errors(f"The {repo_type} {repo_id}"):
        url = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        before = api.repo_info(repo_id, repo_type=repo_type)
        there = api.list_repo_files(repo_id, repo_type=repo_type)
        _check_own(repo_id, repo_type, kind, str(before.sha), there)
        stale = [name for name in there if name not in files and name != ".gitattributes"]
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(name, path) for name, path in files.items()),
            *(CommitOperationDelete(name) for name in stale),
        ]
        # The client leaves out files that the Hub already has, and makes no commit when nothing is left.
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=message,
            repo_type=repo_type,
            parent_commit=before.sha if there else None,
        )
    return Published(repo_id, str(commit.oid), str(url), str(commit.oid) != str(before.sha))


def _allowed(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
