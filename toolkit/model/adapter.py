"""An adapter folder: locate it, load it on its base, hash it, and see whether it learnt anything."""

from __future__ import annotations

import copy
import fnmatch
import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.core.errors import HubError, InputError, after_saying, library_errors
from toolkit.core.folder import json_hash, read_json, read_manifest, sha256_file
from toolkit.core.hub_client import hub, hub_errors, is_hub_id
from toolkit.core.layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CENTROIDS,
    EVALUATION,
    MANIFEST,
    PREDICTIONS,
    TINY_BASE_ID,
    TOKENIZER_CONFIG,
)
from toolkit.model import base as bases
from toolkit.model.attach import AGAIN, PICKLED, lengthen_embeddings, next_logits, put_on, read_settings
from toolkit.model.chat_template import default_template, read_format
from toolkit.model.loading import (
    PROBE_TEXT,
    Precision,
    chosen_precision,
    load_base,
    load_tokenizer,
    overflow_on_text,
)
from toolkit.model.saving import LORA_A, LORA_B

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Model = TypeVar("Model", bound="PreTrainedModel | PeftModel")
CHAT_TEMPLATE = "chat_template.jinja"
# What is fetched of an adapter beside its weights: no checkpoints, states of optimisers, merged weights.
NEEDED = ("*.json", "*.jsonl", "README*.md", PREDICTIONS, CENTROIDS, *bases.TOKENIZER)
# How many folders with adapters are named.
SHOWN = 5


def locate_adapter(name: str, revision: str | None = None) -> Path:
    """The folder of an adapter given by folder or Hub id; the latter is downloaded.

    Args:
        name: A folder, `owner/name`, or `owner/name/folder/within` for an adapter in a folder of a repository.
        revision: Commit, branch or tag on the Hub.

    Raises:
        InputError: Neither a folder with an adapter nor a Hub id, or a revision of a folder.
        HubError: The Hub has no such adapter, or cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"{name} is a folder on this machine, which has no revisions.", "Leave out `revision`.")
        if not (folder / ADAPTER_CONFIG).is_file():
            nested = (f"{'*/' * depth}{ADAPTER_CONFIG}" for depth in (1, 2))
            raise _no_adapter(
                name, [file.relative_to(folder).as_posix() for at in ("*", *nested) for file in folder.glob(at)]
            )
        return folder
    parts = name.rstrip("/").split("/")
    repo_id, within = "/".join(parts[:2]), "/".join(parts[2:])
    if not is_hub_id(repo_id) or {"", ".", ".."} & set(parts):
        raise InputError(
            f"There is no adapter folder {name}.", "Make one with `pkt train`, or name a Hub id (owner/name)."
        )
    with after_saying(f"There is no folder {name}, and"), hub_errors(f"the adapter {repo_id}"):
        files = _listed(repo_id, revision)
        wanted = None if files is None else _wanted(repo_id, within, files)
        if bases.cached_file(repo_id, f"{within}/{ADAPTER_WEIGHTS}".lstrip("/"), revision) is None:
            bases.log.info("Downloading the adapter %s.", name)
        folder = Path(hub().snapshot_download(repo_id, revision=revision, allow_patterns=wanted)) / within
    if not (folder / ADAPTER_CONFIG).is_file():
        raise HubError(f"The Hub cannot be reached, and {name} is not in the cache.", "Check the network.")
    return folder


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of an adapter; empty where another trainer wrote it."""
    return read_manifest(folder, "adapter") if (folder / MANIFEST).is_file() else {}


def _listed(repo_id: str, revision: str | None) -> list[str] | None:
    """The files of a repository, by the Hub or else by the cache; None where neither knows."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        info = bases.info_of(repo_id, revision)
        if info is not None:
            return [file.rfilename for file in info.siblings or []]
        return [file.path for file in get_cached_repo_tree(repo_id, revision=revision)]
    except CachedRepoTreeNotFoundError:
        return None


def _wanted(repo_id: str, within: str, files: Sequence[str]) -> list[str]:
    """Patterns of the files of an adapter, in a folder of its repository or at its top (empty)."""
    level = f"{within}/" if within else ""
    there = [file.removeprefix(level) for file in files if file.startswith(level)]
    if not there:
        with after_saying(f"{repo_id} has no folder {within}, and"):
            raise _no_adapter(repo_id, files)
    if ADAPTER_CONFIG not in there:
        raise _no_adapter(f"{repo_id}/{within}".rstrip("/"), there)
    chosen = [*NEEDED, ADAPTER_WEIGHTS if ADAPTER_WEIGHTS in there else PICKLED]
    return [
        glob.escape(level + file)
        for file in there
        if "/" not in file and any(fnmatch.fnmatchcase(file, pattern) for pattern in chosen)
    ]


def _no_adapter(name: str, files: Sequence[str]) -> InputError:
    """The error for a folder or a repository without an adapter at its top: where there are some, if anywhere."""
    folders = sorted(file.rpartition("/")[0] for file in files if f"/{file}".endswith(f"/{ADAPTER_CONFIG}"))
    if not folders:
        return InputError(f"{name} holds no adapter (no {ADAPTER_CONFIG}).", "Name a folder or a repository with one.")
    shown = ", ".join(folder or "its top" for folder in folders[:SHOWN]) + (", …" if len(folders) > SHOWN else "")
    first = f"{name}/{folders[0]}".rstrip("/")
    return InputError(f"{name} holds adapters in other places: {shown}.", f"Name one of them, such as {first}.")


def load_adapter(
    folder: Path, quantization: str = "none", base: str | None = None
) -> tuple[PeftModel, PreTrainedTokenizerBase, Precision]:
    """An adapter on its base, ready to answer: (model in eval mode, tokenizer, precision).

    The base is held in `nf4` or unquantised (`none`); `base` is the Hub id or the folder of another one than it names.

    Raises:
        InputError: The adapter is damaged, does not fit its base, changes nothing or is not finite.
        EnvironmentLacks: The memory does not hold it.
    """
    return load_adapters([folder], quantization, base)[0]


def load_adapters(
    folders: Sequence[Path], quantization: str = "none", base: str | None = None
) -> list[tuple[PeftModel, PreTrainedTokenizerBase, Precision]]:
    """Several adapters, each as `load_adapter` gives it, on one base whose weights are in memory once.

    Raises:
        InputError: Their bases differ, one changes its base's own weights (as PiSSA does), or as `load_adapter`.
        EnvironmentLacks: The memory does not hold them.
    """
    located = [locate_base_of(folder, quantization, base) for folder in folders]
    _refuse_other_base(folders, located)
    tokenizers = [adapter_tokenizer(folder, each) for folder, each in zip(folders, located, strict=True)]

    def put(plain: PreTrainedModel) -> list[PeftModel]:
        models, asked = [], tokenizers[0](PROBE_TEXT)["input_ids"]
        alone = len(folders) == 1
        before = None if alone else next_logits(plain, asked)
        tensors = {id(tensor): tensor for tensor in (*plain.parameters(), *plain.buffers())}
        for folder, tokenizer in zip(folders, tokenizers, strict=True):
            # Each on a copy of the base's modules that hold the tensors of the base itself.
            models.append(put_on(plain if alone else copy.deepcopy(plain, dict(tensors)), folder, tokenizer))
            if before is not None and not before.equal(next_logits(plain, asked)):
                raise InputError(
                    f"The adapter in {folder} changes its base's own weights, so that no other can share the base.",
                    "Load it alone.",
                )
        return models

    models, precision = _loaded(located[0], quantization, tokenizers[0], put)
    return [(model, tokenizer, precision) for model, tokenizer in zip(models, tokenizers, strict=True)]


def _refuse_other_base(folders: Sequence[Path], located: Sequence[bases.LocatedBase]) -> None:
    for folder, each in zip(folders, located, strict=True):
        if each.path != located[0].path and bases.base_hash(each) != bases.base_hash(located[0]):
            first, other = (f"{one.id}{f' at {one.revision}' if one.revision else ''}" for one in (located[0], each))
            raise InputError(
                f"{folders[0]} is an adapter of the base {first}, and {folder} one of {other}.",
                "Load adapters of one base together, or give the `base` for all.",
            )


def _loaded(
    base: bases.LocatedBase,
    quantization: str,
    tokenizer: PreTrainedTokenizerBase,
    put: Callable[[PreTrainedModel], list[Model]],
) -> tuple[list[Model], Precision]:
    """A base with something put on it, once or more, in a precision that its numbers fit."""
    precision = chosen_precision(base, quantization)
    models = put(load_base(base, precision))
    if precision.compute == "float16":
        found = next(filter(None, (overflow_on_text(model, "float16", tokenizer) for model in models)), None)
        if found:
            del models
            precision = precision.widened(found)
            models = put(load_base(base, precision))
    return models, precision


def load_without(
    folder: Path, quantization: str = "none", base: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base of an adapter as it is published, and its tokenizer: to switch an adapter off is not enough.

    Some adapters (PiSSA, trained biases) leave the base's weights changed. The base is asked with its own chat
    template, where it has one that can be asked with; else with the adapter's.

    Raises:
        InputError, EnvironmentLacks: As `load_adapter`.
    """
    located = locate_base_of(folder, quantization, base)
    tokenizer = load_tokenizer(located.path)
    [model], _ = _loaded(located, quantization, tokenizer, lambda plain: [plain])
    try:
        read_format(tokenizer)
    except InputError:
        tokenizer = adapter_tokenizer(folder, located)
        lengthen_embeddings(model, folder, tokenizer)
    return model, tokenizer


def locate_base_of(folder: Path, quantization: str, base: str | None = None) -> bases.LocatedBase:
    """The base that an adapter names, or the one given by Hub id or folder, downloaded when it is not here.

    Raises:
        InputError: A file of the adapter is missing or damaged, it names no base, or was trained on another tiny base.
        HubError, EnvironmentLacks: As `locate_base`.
    """
    config = read_settings(folder)
    named = config.base_model_name_or_path
    if base not in (None, named):
        located = bases.locate_base_to_load(base, quantization=quantization)
    elif named:
        with after_saying(f"{folder / ADAPTER_CONFIG} names the base {named}, which `base` overrules:"):
            located = bases.locate_base_to_load(str(named), config.revision, quantization=quantization)
    else:
        raise InputError(f"{folder / ADAPTER_CONFIG} names no base.", "Give its Hub id or its folder as `base`.")
    if located.id == TINY_BASE_ID and (folder / MANIFEST).is_file():
        # The tiny base changes with the toolkit.
        trained_on = read_manifest(folder, "adapter").get("base", {}).get("content")
        if trained_on not in (None, bases.base_hash(located)):
            raise InputError(
                f"The adapter in {folder} was trained on the tiny base of another version of pkt.",
                "Train it again, or use that version.",
            )
    return located


def adapter_tokenizer(folder: Path, base: bases.LocatedBase) -> PreTrainedTokenizerBase:
    """The tokenizer of an adapter, and its chat template: each its own, else its base's.

    Raises:
        InputError: One that is there cannot be read.
    """
    own, template = (folder / TOKENIZER_CONFIG).is_file(), folder / CHAT_TEMPLATE
    tokenizer = load_tokenizer(folder if own else base.path)
    if not own and template.is_file():
        tokenizer.chat_template = template.read_text(encoding="utf-8", errors="replace")
    elif not default_template(tokenizer):
        tokenizer.chat_template = load_tokenizer(base.path).chat_template
    return tokenizer


def adapter_changes_nothing(folder: Path) -> bool:
    """Whether a model with the adapter in a folder answers as the base does, read from its weights alone.

    LoRA adds B·A to a weight, and B begins as zero: where each product is zero, nothing was learnt. Weights of another
    kind (whole layers that were trained) count as a change.

    Raises:
        InputError: The weights cannot be read.
    """
    from safetensors.torch import load_file

    with library_errors(f"The adapter in {folder} cannot be read", AGAIN):
        weights = load_file(folder / ADAPTER_WEIGHTS)
    names = [name for name in weights if LORA_B.search(name)]
    if any(not LORA_B.search(name) and not LORA_A.search(name) for name in weights):
        return False
    return not any(bool(weights[name].any()) and bool(weights[LORA_B.sub(r"\1A", name)].any()) for name in names)


def may_be_quantized(folder: Path, base: str | None = None) -> bool:
    """Whether the base of an adapter may be stored in a quantised form, which takes other libraries to load.

    Files on this machine decide; a base that is not here yet may be anything.
    """
    named = read_json(folder / ADAPTER_CONFIG)
    base = base or named.get("base_model_name_or_path")
    if base == TINY_BASE_ID:
        return False
    config = bases.cached_file(base, bases.CONFIG, named.get("revision")) if base else None
    return config is None or "quantization_config" in read_json(config)


def answers_hash(folder: Path, quantization: str, base: str | None = None) -> str:
    """One hash for all that decides an adapter's answers: its files and its base, which is downloaded if it must be.

    Raises:
        InputError, HubError, EnvironmentLacks: As `locate_base_of`.
    """
    located = locate_base_of(folder, quantization, base)
    files = [
        file for file in folder.iterdir() if file.suffix in bases.HASHED and file.name not in (MANIFEST, EVALUATION)
    ]
    hashes = {file.name: sha256_file(file) for file in files if file.is_file()}
    # The content of the tiny base and of a folder, the commit of another: a branch may have moved on.
    by_content = located.id == TINY_BASE_ID or located.revision is None
    return json_hash([hashes, bases.base_hash(located) if by_content else located.revision])
