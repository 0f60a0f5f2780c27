"""Large files, by git-lfs' basic transfer: a batch hands out signed addresses, each takes one upload."""

import hashlib
import hmac
import secrets
import time
from pathlib import Path, PurePosixPath
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from toolkit.hub.local.blobs import to_disk
from toolkit.hub.local.body import chunks, too_long
from toolkit.hub.local.call import Call, answer, list_field, size_field, text_field, whole_number
from toolkit.hub.local.names import RepoId
from toolkit.hub.local.refusal import RefusedError, malformed

_LFS_SUFFIXES = (
    *("7z", "arrow", "avi", "bin", "bz2", "ckpt", "flac", "gguf", "gif", "gz", "h5", "jpeg", "jpg", "joblib"),
    *("mlmodel", "model", "mp3", "mp4", "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pickle"),
    *("pkl", "png", "pt", "pth", "rar", "safetensors", "tar", "tflite", "tgz", "wasm", "wav", "webp", "xz"),
    *("zip", "zst"),
)
GIT_ATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LFS_SUFFIXES).encode()

UPLOAD_SECONDS = 3600  # until an upload must have begun
_LARGE_TEXT = 10 * 2**20
_KEY = secrets.token_bytes(32)  # addresses need not outlive the process: clients ask for new ones


def belongs_in_lfs(path: str, size: int, sample: bytes) -> bool:
    """Data formats, other binary files, and long texts. Never an empty file: the client sends it inline."""
    suffix = PurePosixPath(path).suffix.removeprefix(".").lower()
    return size > 0 and (suffix in _LFS_SUFFIXES or size > _LARGE_TEXT or b"\0" in sample)


def batch(call: Call) -> Response:
    """Where to put each object. One that the repository has already gets no `actions`.

    Whoever may read may upload, since a pull request needs it; what no commit names can not be seen.
    """
    repository = call.readable()
    repo = repository.repo
    call.require_user()
    call.require_access(repository)
    wanted = call.json()
    if wanted.get("operation") != "upload":
        raise malformed("Only the operation 'upload' is supported: download through /resolve/")
    objects = []
    for each in list_field(wanted, "objects"):
        oid, size = text_field(each, "oid"), size_field(each)
        if size > call.limits.file:
            raise too_long(f"The file {oid[:10]}", size, call.limits.file)
        described: dict[str, object] = {"oid": oid, "size": size}
        if not call.store.blob(repo, oid).exists():
            described["actions"] = {"upload": {"href": _address(call, repo, oid, size)}}
        objects.append(described)
    return answer({"transfer": "basic", "objects": objects})


async def receive(call: Call) -> Response:
    """The upload of one object, kept only when it has the hash and the size that were signed."""
    repo, oid, query = call.repo(), call.args["oid"], call.request.query_params
    size, expires = whole_number(query.get("size", "")), whole_number(query.get("expires", ""))
    signature = _signature(repo, oid, size, expires)
    if not hmac.compare_digest(query.get("signature", "").encode(), signature.encode()):
        raise RefusedError(403, "This upload was not announced to the batch endpoint")
    if expires < time.time():
        raise RefusedError(403, "The time for this upload is over: ask the batch endpoint again")
    incoming = call.store.incoming.fresh()
    try:
        if await _save(call, incoming, size) != oid:
            raise malformed(f"The upload does not have the sha256 {oid}")
        await run_in_threadpool(call.store.adopt, repo, incoming, oid)
    finally:
        incoming.unlink(missing_ok=True)
    return answer({})


async def _save(call: Call, target: Path, size: int) -> str:
    """Write the body to `target` and return its sha256. Raises `RefusedError` unless it has `size` bytes."""
    digest, written = hashlib.sha256(), 0
    with target.open("wb") as file:
        async for chunk in chunks(call.request, call.limits):
            written += len(chunk)
            if written > size:
                raise too_long("The upload", written, size)
            digest.update(chunk)
            file.write(chunk)
        await run_in_threadpool(to_disk, file)
    if written != size:
        raise malformed(f"The upload has {written} bytes, not {size}")
    return digest.hexdigest()


def _address(call: Call, repo: RepoId, oid: str, size: int) -> str:
    """Where one object of this size can be put for a while, without a token."""
    expires = int(time.time()) + UPLOAD_SECONDS
    query = urlencode({"size": size, "expires": expires, "signature": _signature(repo, oid, size, expires)})
    return f"{call.endpoint}{repo.url_path}.git/info/lfs/objects/{oid}?{query}"


def _signature(repo: RepoId, oid: str, size: int, expires: int) -> str:
    return hmac.new(_KEY, f"{repo.kind}/{repo}/{oid}/{size}/{expires}".encode(), "sha256").hexdigest()
