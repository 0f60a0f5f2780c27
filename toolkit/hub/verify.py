"""Check that a published adapter is what its card says: load it in a clean process, with an empty cache, and try it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.core.errors import CheckFailed, EnvironmentLacks, HubError, InputError
from toolkit.core.folder import read_json
from toolkit.core.hub_client import hub, hub_errors, without_secrets

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# The Hub is reached, and the device chosen, as in this process. Nothing else is passed on.
KEPT_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"),
    *("CUDA_VISIBLE_DEVICES", "HF_ENDPOINT", "HF_HUB_DISABLE_XET"),
    *PROXIES,
    *(name.lower() for name in PROXIES),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
# Errors of the clean process that are raised here too.
KINDS = {each.__name__: each for each in (EnvironmentLacks, HubError, InputError)}


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared of a repository at a commit, and every difference found; none means that the card is true.

    Attributes:
        files: How many files the manifest names.
        samples: How many samples were made again.
        differences: Each in a line.
        notes: What could not be compared, or is no difference.
        printed: The output of the card's own code; None where it was not run.
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


def verify_or_raise(repo_id: str, revision: str | None = None) -> Verification:
    """Verify a published adapter, and raise CheckFailed at any difference; other errors as `verify`."""
    found = verify(repo_id, revision)
    if not found.ok:
        raise CheckFailed(
            f"{repo_id} is not what its card says: {found.differences[0]}.",
            f"Run `pkt verify {repo_id}` to see the rest.",
        )
    return found


def verify(repo_id: str, revision: str | None = None) -> Verification:
    """Load a published adapter by its id with peft, and reproduce the samples of its card.

    `toolkit.hub.reproduce` does it in a process of its own, with an empty cache and an environment that holds nothing
    but the way to the Hub, the token and the device.

    Args:
        revision: Commit, branch or tag; None: the newest commit.

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
        # Not in the working directory, where a folder could bear the repository's name and be loaded instead.
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return _read_result(Path(folder) / "result.json", done.stderr, repo_id, sha)


def _read_result(file: Path, stderr: str, repo_id: str, sha: str) -> Verification:
    if not file.is_file():
        last = without_secrets(stderr.strip().split("\n")[-1])
        raise HubError(f"{repo_id} cannot be loaded with peft: {last}", "Publish it again from a whole adapter folder.")
    result = read_json(file)
    if "unusable" in result:
        raise InputError(
            f"{repo_id} cannot be verified: {result['unusable']}.", "Name a repository that pkt published."
        )
    if "failed" in result:
        failed = result["failed"]
        raise KINDS.get(failed["kind"], HubError)(failed["found"], failed["remedy"])
    return Verification(repo_id, sha, **result)
