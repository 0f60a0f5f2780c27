"""Large files, by git-lfs' basic transfer: a batch hands out signed addresses, each takes one upload."""

import hashlib
import hmac
import secrets
from pathlib import Path, PurePosixPath
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from toolkit.local_hub.call import Call, answer, list_field, size_field, text_field
from toolkit.local_hub.names import RepoId
from toolkit.local_hub.refusal import RefusedError, malformed

_LFS_SUFFIXES = (
    *("7z", "arrow", "avi", "bin", "bz2", "ckpt", "flac", "gguf", "gif", "gz", "h5", "jpeg", "jpg", "joblib"),
    *("mlmodel", "model", "mp3", "mp4", "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pickle"),
    *("pkl", "png", "pt", "pth", "rar", "safetensors", "tar", "tflite", "tgz", "wasm", "wav", "webp", "xz"),
    *("zip", "zst"),
)
GIT_ATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LFS_SUFFIXES).encode()

_LARGE_TEXT = 10 * 2**20
_KEY = secrets.token_bytes(32)  # addresses need not outlive the process: clients ask for new ones


def belongs_in_lfs(path: str, size: int, sample: bytes) -> bool:
    """Data formats, other binary files, and long texts. Never an empty file: the client sends it inline."""
    suffix = PurePosixPath(path).suffix.removeprefix(".").lower()
    return size > 0 and (suffix in _LFS_SUFFIXES or size > _LARGE_TEXT or b"\0" in sample)


def batch(call: Call) -> Response:
    """Where to put each object. One that the repository has already gets no `actions`."""
    repo = call.writable().repo
    wanted = call.json()
    if wanted.get("operation") != "upload":
        raise malformed("Only the operation 'upload' is supported: download through /resolve/")
    objects = []
    for each in list_field(wanted, "objects"):
        oid, size = text_field(each, "oid"), size_field(each)
        described: dict[str, object] = {"oid": oid, "size": size}
        if not call.store.blob(repo, oid).exists():
            query = urlencode({"signature": _signature(repo, oid)})
            href = f"{call.endpoint}{repo.url_path}.git/info/lfs/objects/{oid}?{query}"
            described["actions"] = {"upload": {"href": href}}
        objects.append(described)
    return answer({"transfer": "basic", "objects": objects})


async def receive(call: Call) -> Response:
    """The upload of one object, kept only when it has the hash that was signed."""
    repo, oid = call.repo(), call.args["oid"]
    signature = call.request.query_params.get("signature", "").encode()
    if not hmac.compare_digest(signature, _signature(repo, oid).encode()):
        raise RefusedError(403, "This upload was not announced to the batch endpoint")
    incoming = call.store.incoming.fresh()
    try:
        if await _save(call, incoming) != oid:
            raise malformed(f"The upload does not have the sha256 {oid}")
        await run_in_threadpool(call.store.adopt, repo, incoming, oid)
    finally:
        incoming.unlink(missing_ok=True)
    return answer({})


async def _save(call: Call, target: Path) -> str:
    """Write the body to `target` and return its sha256."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        async for chunk in call.request.stream():
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _signature(repo: RepoId, oid: str) -> str:
    return hmac.new(_KEY, f"{repo.kind}/{repo}/{oid}".encode(), "sha256").hexdigest()
