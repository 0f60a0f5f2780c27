"""Is what was published what its card says? Downloads it into an empty cache, in a clean process, and tries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.core.errors import CheckFailed, EnvironmentLacks, HubError, InputError, ToolkitError
from toolkit.core.hub_client import hub, hub_errors, without_secrets

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# How the Hub is reached and on which device is computed: the same as here. Nothing else.
KEPT_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "HF_ENDPOINT",
    "HF_HUB_DISABLE_XET",
    *PROXIES,
    *(name.lower() for name in PROXIES),
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CUDA_VISIBLE_DEVICES",
)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, and every difference found; none means that the card told the truth.

    Attributes:
        repo_id: The repository.
        revision: The commit that was looked at.
        files: How many files the manifest names.
        samples: How many samples were made again.
        differences: Each in a line.
        notes: What could not be compared, or is no lie.
        printed: What the card's own code printed; None where it was not run.
    """

    repo_id: str
    revision: str
    files: int
    samples: int
    differences: list[str]
    notes: list[str] = field(default_factory=list)
    printed: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing differed."""
        return not self.differences


def check(repo_id: str, revision: str | None = None) -> Verification:
    """Verify a published adapter, and be content with nothing less.

    Raises:
        CheckFailed: It is not what its card says.
        As `verify`.
    """
    found = verify(repo_id, revision)
    if not found.ok:
        raise CheckFailed(
            f"{repo_id} is not what its card says: {found.differences[0]}.",
            f"See `pkt verify {repo_id} --revision {found.revision[:12]}` for the rest.",
        )
    return found


def verify(repo_id: str, revision: str | None = None) -> Verification:
    """Load a published adapter by its id with peft and reproduce the samples of its card.

    The work is done by `toolkit.hub.reproduce` in a process of its own whose cache is empty and whose environment holds
    nothing but how the Hub is reached, the token and the device.

    Raises:
        HubError, EnvironmentLacks: The repository does not exist, or the Hub refused.
        InputError: The repository was not published by this toolkit.
    """
    from huggingface_hub import get_token

    with hub_errors(f"The adapter {repo_id}"):
        sha = str(hub().model_info(repo_id, revision=revision).sha)
    with tempfile.TemporaryDirectory(prefix="pkt-verify-") as folder:
        environment = {key: os.environ[key] for key in KEPT_ENVIRONMENT if key in os.environ}
        environment |= {"HF_HOME": folder, "PYTHONWARNINGS": "ignore"}
        if token := get_token():
            environment["HF_TOKEN"] = token
        command = [sys.executable, "-m", "toolkit.hub.reproduce", repo_id, sha, str(Path(folder) / "result.json")]
        # Elsewhere, because a folder of the working directory wins over a repository of the same name.
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return _read_result(Path(folder) / "result.json", done, repo_id, sha)


def _read_result(file: Path, done: subprocess.CompletedProcess[str], repo_id: str, sha: str) -> Verification:
    if not file.is_file():
        last = without_secrets(done.stderr.strip().split("\n")[-1])
        raise HubError(
            f"{repo_id} can not be loaded with peft: {last}", "Publish it again from a whole adapter folder."
        )
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if "unusable" in result:
        raise InputError(
            f"{repo_id} can not be verified: {result['unusable']}.", "Name a repository that pkt published."
        )
    if "failed" in result:
        raise _as_raised(**result["failed"])
    return Verification(repo_id, sha, **result)


def _as_raised(kind: str, found: str, remedy: str) -> ToolkitError:
    """An error of the clean process as this one would have raised it."""
    kinds: dict[str, type[ToolkitError]] = {each.__name__: each for each in (EnvironmentLacks, HubError, InputError)}
    return kinds.get(kind, HubError)(found, remedy)
