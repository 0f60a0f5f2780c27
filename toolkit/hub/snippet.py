"""The code block of a published card, run as its reader would: without this toolkit, at the commit in question."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from toolkit import cards
from toolkit.core.recipe import DecodingSettings

DTYPES = ("float32", "bfloat16", "float16")
BLOCK_TOOLKIT = "import sys\nsys.modules['toolkit'] = None\n"


def snippet_of(card: str) -> str | None:
    """The first Python block of a card."""
    blocks = (token for token in MarkdownIt("commonmark").parse(card) if token.type == "fence")
    return next((token.content.rstrip("\n") for token in blocks if token.info.strip() == "python"), None)


def is_ours(
    snippet: str, folder: Path, manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], repo_id: str
) -> bool:
    """Whether a snippet is the one that this toolkit writes from the files beside it.

    Whoever wrote the repository wrote its manifest too, so what goes into the code as it is must be of a known form.
    """
    precision = manifest.get("evaluation_precision") or manifest["precision"]
    if precision["compute"] not in DTYPES or precision["base"] not in ("none", "nf4"):
        return False
    decoding = DecodingSettings.model_validate(manifest["recipe"]["decoding"]).model_dump(mode="json")
    known = {**manifest, "recipe": {**manifest["recipe"], "decoding": decoding}}
    tokens = list(map(str, manifest.get("stop_tokens") or []))
    return cards.usage_snippet(known, samples, tokens, repo_id) == snippet


def run(snippet: str, repo_id: str, revision: str) -> tuple[str | None, str]:
    """Run a snippet offline, in a process of its own, on what this process downloaded.

    Returns:
        What it printed, or None when it failed; and the last line of its errors.
    """
    _point_at(repo_id, revision)
    kept = {key: value for key, value in os.environ.items() if key not in ("HF_TOKEN", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", BLOCK_TOOLKIT + snippet],
        env=kept | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().split("\n")[-1]
    return (done.stdout.strip() if done.returncode == 0 else None), last


def _point_at(repo_id: str, revision: str) -> None:
    """Make the cache say that this commit is the newest one, which is what a snippet without a revision asks for."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    ref = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model") / "refs" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(revision, encoding="utf-8")
