"""A Hub in a folder for this process, and a base put on it from a GGUF file, where no other Hub is in reach."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toolkit import cards
from toolkit.core.errors import InputError
from toolkit.core.folder import manifest_facts, write_manifest
from toolkit.core.hub_client import read_token, use_hub
from toolkit.hub import upload
from toolkit.hub.contents import contents
from toolkit.hub.local.serve import kept_token, running_hub
from toolkit.hub.publish import PublishOptions, push_tiny_base, upload_and_show
from toolkit.hub.remote import Remote, check_hub_id, read_remote
from toolkit.model.gguf import GgufFile, read_gguf, write_base

# What takes long is said here; the command line shows it.
log = logging.getLogger("toolkit")
TITLE = "A base from a GGUF file, from pkt"


@dataclass(frozen=True, slots=True)
class ImportedBase:
    """A base on a local Hub.

    Attributes:
        hub: The folder of the Hub.
        changed: Whether it had to be made; else it was there already.
        facts: Of its manifest: `gguf`, `license`, `architecture`, `parameters`, `dtype`, `check`.
    """

    repo_id: str
    revision: str
    hub: Path
    changed: bool
    facts: dict[str, Any]


@contextmanager
def local_hub(root: Path, cache: Path | None = None) -> Iterator[None]:
    """Serve the Hub in a folder to this process, with the tiny base in it; `cache` as for `use_hub`."""
    token_file = kept_token(root)
    with running_hub(root, owner_token=read_token(token_file)) as endpoint:
        use_hub(endpoint, token_file, cache=cache)
        push_tiny_base()
        yield


def import_base(file: str | Path, repo_id: str, hub: str | Path = "hub") -> ImportedBase:
    """Put the model of a GGUF file on a local Hub, as a base to train on by its id.

    Args:
        file: A GGUF file of a language model, with its chat template.
        repo_id: The id that it gets: the original's, so that an adapter names a base which everybody can load.
        hub: The folder of the local Hub, made when it is not there.

    Raises:
        InputError: As `read_gguf` and `write_base`; not a Hub id; or this id has other content there.
        EnvironmentLacks: The package `gguf` is not installed; memory or disk do not hold the base.
        HubError: Somebody else's files are under this id.
    """
    check_hub_id(repo_id)
    gguf, root = read_gguf(Path(file)), Path(hub)
    with local_hub(root):
        remote = read_remote(repo_id, "base")
        if remote.manifest:
            return _known(gguf, remote, root)
        # A killed process's is cleared away when the Hub is next served.
        with TemporaryDirectory(dir=root / "incoming") as fresh:
            folder, origin = Path(fresh), {key: getattr(gguf, key) for key in ("sha256", "name", "types", "quantised")}
            log.info("Reading %s: %s numbers, mostly %s.", gguf.path.name, f"{gguf.numbers:,}", gguf.types[0])
            facts = {"id": repo_id, "gguf": {"file": gguf.path.name} | origin, "license": gguf.license}
            facts |= write_base(gguf, folder, repo_id)
            cards.render_base_card(folder, facts)
            write_manifest(folder, "base", facts)
            # Public also where an earlier import was interrupted before it came so far.
            done = upload_and_show(upload.plan(remote, contents(folder, "base")), PublishOptions(private=False), TITLE)
    return ImportedBase(repo_id, done.revision, root, True, facts)


def _known(gguf: GgufFile, remote: Remote, root: Path) -> ImportedBase:
    """The base that is there under this id, made of this file already."""
    if remote.manifest.get("gguf", {}).get("sha256") != gguf.sha256:
        raise InputError(f"{remote.subject} is another one on the Hub in {root}.", "Choose another id, or another Hub.")
    if remote.private:
        upload.set_private(remote, False)
    return ImportedBase(remote.repo_id, str(remote.revision), root, False, manifest_facts(remote.manifest))
