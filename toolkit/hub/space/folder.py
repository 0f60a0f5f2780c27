"""Write the folder of a Space: its card, the page, the libraries that it needs, and the adapter that answers."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from toolkit.cards.escape import md_text, plain
from toolkit.cards.metadata import license_of, to_yaml
from toolkit.core.folder import atomic_folder, library_versions, write_json, write_manifest
from toolkit.core.hub_client import is_hub_id
from toolkit.core.layout import CARD
from toolkit.hub.remote import read_published

# The version of gradio that the page is tested with; a test compares it with constraints.txt.
GRADIO = "6.31.0"
LIBRARIES = ("torch", "transformers", "peft")
TEMPLATE = """---
{front_matter}
---

# {title}

A page for the adapter {adapter} at {revision}: describe a creature, in English or Korean, and get names for it.

It runs on a CPU as well as on a GPU. Where the adapter is private or its base is gated, give the Space a secret
`HF_TOKEN` that may read them.
"""


def write_space(adapter_repo: str, revision: str | None, out: Path) -> None:
    """Write the folder of a Space that shows a published adapter at one commit, by default the newest.

    Raises:
        InputError: Not an adapter that pkt published, or `out` is something else.
        HubError, EnvironmentLacks: There is no such adapter, or the Hub refused or cannot be reached.
    """
    info, manifest = read_published(adapter_repo, "adapter", revision)
    commit = str(info.sha)
    facts = {"adapter": adapter_repo, "revision": commit}
    with atomic_folder(out, "space") as folder:
        with as_file(files("toolkit.hub.space") / "app.py") as page:
            shutil.copyfile(page, folder / "app.py")
        write_json(folder / "space.json", facts)
        (folder / "requirements.txt").write_text(requirements(), encoding="utf-8")
        (folder / CARD).write_text(_card(adapter_repo, commit, manifest), encoding="utf-8")
        write_manifest(folder, "space", facts)


def requirements() -> str:
    """The libraries of the page beside gradio, in the versions that are installed here."""
    installed = library_versions()
    return "".join(f"{name}=={installed[name].partition('+')[0]}\n" for name in LIBRARIES)


def _card(repo_id: str, commit: str, manifest: Mapping[str, Any]) -> str:
    from huggingface_hub import SpaceCardData

    title = plain(repo_id.partition("/")[2], 40)
    dataset = str(manifest.get("dataset", {}).get("id", ""))
    data = SpaceCardData(
        title=title,
        emoji="🔎",
        colorFrom="yellow",
        colorTo="blue",
        sdk="gradio",
        sdk_version=GRADIO,
        python_version=".".join(platform.python_version_tuple()[:2]),
        app_file="app.py",
        license=license_of(manifest["base"])[0] if manifest.get("base", {}).get("id") else None,
        models=[repo_id],
        datasets=[dataset] if is_hub_id(dataset) else None,
    )
    return TEMPLATE.format(front_matter=to_yaml(data), title=md_text(title), adapter=md_text(repo_id), revision=commit)
