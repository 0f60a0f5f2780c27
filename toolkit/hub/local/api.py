"""The JSON API beside the files: accounts, repositories, their references, history and pull requests, and searches."""

import html
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import yaml
from starlette.responses import Response

from toolkit.cards.page import front_matter
from toolkit.hub.local.files import GIT_ATTRIBUTES, lfs_details
from toolkit.hub.local.history import Commit
from toolkit.hub.local.objects import MAIN, PullRequest, RefusedError, RepoId, Repository, malformed, repo_id
from toolkit.hub.local.request import Call, answer, parse_object, refuse_others, text_field, whole_number
from toolkit.hub.local.store import find_pull

_LONGEST_CARD = 2_000_000  # bytes; of a card, or of another file that describes
# The types that the Hub requires of these fields of a card, where they are there.
_FIELD_TYPES: dict[tuple[str, ...], tuple[type, ...]] = {
    ("base_model", "language", "license"): (str, list),
    ("library_name", "pipeline_tag"): (str,),
    ("model-index", "tags"): (list,),
}
# Fields of a card that become tags: by their value alone, or after the field's name, as all do for datasets.
_PLAIN = ("library_name", "pipeline_tag", "language", "tags")
_NAMED = ("license", "base_model", "datasets")
_OF_DATASETS = (
    *("task_categories", "task_ids", "language", "license", "size_categories", "source_datasets"),
    *("annotations_creators", "language_creators", "multilinguality"),
)
_RESULTS = re.compile(r"\.eval_results/[^/]+\.ya?ml")
_SDKS = ("gradio", "streamlit", "docker", "static")
_SEARCHED_BY = ("author", "search", "filter", "limit", "full", "cardData", "expand", "expand[]")

# Accounts


def whoami(call: Call) -> Response:
    user = call.require_user()
    return answer(
        {
            "type": "user",
            "id": user,
            "name": user,
            "fullname": user,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"displayName": "local", "role": "write"}},
        }
    )


def may_read(call: Call) -> Response:
    call.require_files(call.readable())
    return answer({})


# Repositories


def create(call: Call) -> Response:
    wanted = call.json("name", "organization", "type", "visibility", "private", "sdk")
    repo = call.store.canonical(_repo_in(call, wanted))
    author = call.require_writer(repo.namespace)
    url = {"name": str(repo), "url": call.endpoint + repo.url_path}
    files = {".gitattributes": GIT_ATTRIBUTES} | _first_card(repo, wanted)
    try:
        call.store.create(repo, private=_is_private(wanted, False), author=author, files=files)
    except RefusedError as refused:
        refused.extra.update(url)  # read by `create_repo(exist_ok=True)`
        raise
    return answer(url)


def delete(call: Call) -> Response:
    call.store.delete(call.writable(_repo_in(call, call.json())).repo)
    return answer({})


def move(call: Call) -> Response:
    wanted = call.json("fromRepo", "toRepo", "type")
    source, target = (_split_id(wanted, name) for name in ("fromRepo", "toRepo"))
    repository = call.writable(source)
    call.require_writer(target.namespace)
    call.store.move(repository.repo, target)
    return answer({})


def settings(call: Call) -> Response:
    """Who sees a repository, and whether its files are for its owner alone."""
    repository, wanted = call.writable(), call.json("private", "visibility", "gated")
    private, gated = _is_private(wanted, repository.private), wanted.get("gated", repository.gated or False)
    if gated not in ("auto", "manual", False):
        raise malformed(f"'gated' must be auto, manual or false: {gated!r}")
    call.store.update(repository.repo, lambda state: replace(state, private=private, gated=gated or None))
    return answer({"private": private, "gated": gated})


def _first_card(repo: RepoId, wanted: Mapping[str, Any]) -> dict[str, bytes]:
    """The card that the Hub writes into a new Space; nothing for others. Raises `RefusedError` (400)."""
    sdk = wanted.get("sdk")
    if repo.kind != "spaces" and sdk is None:
        return {}
    if repo.kind != "spaces" or sdk not in _SDKS:
        raise malformed(f"'sdk' must be one of {', '.join(_SDKS)} for a Space, and absent for others: {sdk!r}")
    return {"README.md": f"---\ntitle: {json.dumps(repo.name)}\nsdk: {sdk}\n---\n".encode()}


def _repo_in(call: Call, wanted: Mapping[str, Any]) -> RepoId:
    """The repository that a body names; without an organization it is the user's own."""
    namespace = text_field(wanted, "organization", call.user or "")
    if not namespace:
        call.require_writer(namespace)
    return repo_id(text_field(wanted, "type", "model") + "s", namespace, text_field(wanted, "name"))


def _split_id(wanted: Mapping[str, Any], name: str) -> RepoId:
    namespace, _, repo_name = text_field(wanted, name).partition("/")
    return repo_id(text_field(wanted, "type", "model") + "s", namespace, repo_name)


def _is_private(wanted: Mapping[str, Any], default: bool) -> bool:
    """The wanted visibility: `visibility`, or `private` of older clients; the default where both are null or absent."""
    told = wanted.get("visibility") or wanted.get("private")
    if told not in ("public", "private", True, False, None):
        raise malformed(f"Unknown visibility: {told!r}")
    return default if told is None else told in ("private", True)


# Descriptions and searches


def info(call: Call) -> Response:
    found = call.commit()
    refuse_others(call.request.query_params, ("blobs", "expand", "expand[]"))
    return answer(_describe(call, *found, full=True, card=True))


def search(call: Call) -> Response:
    """The repositories of one kind, by name. Other searches are refused: the whole list would be a wrong answer."""
    kind, query, full = call.args["kind"], call.request.query_params, call.flag("full")
    refuse_others(query, _SEARCHED_BY)
    card = call.flag("cardData") or (full and kind != "models")
    found = islice(_found(call, kind), whole_number(query["limit"]) if "limit" in query else None)
    return answer([_describe(call, *each, full=full, card=card) for each in found])


def _found(call: Call, kind: str) -> Iterator[tuple[Repository, Commit]]:
    query = call.request.query_params
    author, words, wanted = query.get("author"), query.getlist("search"), set(query.getlist("filter"))
    for repository in call.store.repositories(kind):
        name = str(repository.repo).lower()
        if call.may_see(repository) and (author is None or author.lower() == repository.repo.namespace.lower()):
            commit = call.store.commit_at(repository, MAIN)
            tags = _tags(kind, metadata(call, repository, commit)) if wanted else []
            if all(word.lower() in name for word in words) and wanted <= set(tags):
                yield repository, commit


def _describe(call: Call, repository: Repository, commit: Commit, *, full: bool, card: bool) -> dict[str, object]:
    """A repository as the clients read it; `full` adds its files, `card` its metadata. Asked to expand, only that."""
    query, data = call.request.query_params, metadata(call, repository, commit)
    expanded = {*query.getlist("expand"), *query.getlist("expand[]")}
    texts = ("sdk",) if repository.repo.kind == "spaces" else ("pipeline_tag", "library_name")
    described = {
        "id": str(repository.repo),
        "author": repository.repo.namespace,
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": repository.created_at,
        "private": repository.private,
        "gated": repository.gated or False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "trendingScore": 0,
        "xetEnabled": False,  # what clients before 1.0 ask
        "tags": _tags(repository.repo.kind, data),
        "cardData": card_data(call, repository, commit) or None if card or "cardData" in expanded else None,
        "siblings": _siblings(commit, call.flag("blobs")) if full or "siblings" in expanded else None,
        **{field: next(iter(_texts(data.get(field))), None) for field in texts},
        "evalResults": _results(call, repository, commit) if "evalResults" in expanded else None,
    }
    refuse_others(dict.fromkeys(expanded, True), described)
    return {name: value for name, value in described.items() if not expanded or name in {"id", *expanded}}


def _results(call: Call, repository: Repository, commit: Commit) -> list[dict[str, object]]:
    """The results in the files of `.eval_results/`, each with its file's name; of a file that has none, an error."""
    found: list[dict[str, object]] = []
    for path in filter(_RESULTS.fullmatch, commit.files.below()):
        try:
            read = json.loads(json.dumps(yaml.safe_load(card_text(call, repository, commit, path) or ""), default=str))
            if missing := [
                entry for entry in read if not {"id", "task_id"} <= entry["dataset"].keys() or "value" not in entry
            ]:
                raise ValueError(f"{missing[0]} lacks dataset.id, dataset.task_id or value")
            found += [{"filename": path, "data": entry} for entry in read]
        except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
            found.append({"filename": path, "error": str(error)})
    return found


def _siblings(commit: Commit, with_blobs: bool) -> list[dict[str, object]]:
    files = commit.files.below().items()
    if not with_blobs:
        return [{"rfilename": path} for path, _ in files]
    return [
        {"rfilename": path, "size": entry.size, "blobId": entry.oid, **lfs_details(entry, "sha256")}
        for path, entry in files
    ]


def _tags(kind: str, card: Mapping[str, Any]) -> list[str]:
    """The tags that find a repository: the card's own, and its licence, languages, task and the like."""
    plain, named = (("tags",), _OF_DATASETS) if kind == "datasets" else (_PLAIN, _NAMED)
    found = [text for field in plain for text in _texts(card.get(field))]
    found += [
        f"{'dataset' if field == 'datasets' else field}:{text}" for field in named for text in _texts(card.get(field))
    ]
    if isinstance(relation := card.get("base_model_relation"), str):
        found += [f"base_model:{relation}:{text}" for text in _texts(card.get("base_model"))]
    return list(dict.fromkeys(found))


def _texts(value: object) -> list[str]:
    """A field of a card that is one text or a list of them."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


# Cards


def metadata(call: Call, repository: Repository, commit: Commit) -> dict[str, Any]:
    """What describes a repository: its card, and for a model what its files say where that is silent."""
    card = card_data(call, repository, commit)
    if repository.repo.kind != "models":
        return card

    def read(path: str) -> Mapping[str, Any]:
        try:
            return parse_object((card_text(call, repository, commit, path) or "").encode())
        except RefusedError:
            return {}

    found, tags = _of_files(commit.files.below(), read), card.get("tags")
    stated = {name: value for name, value in card.items() if value is not None}
    return {**found, **stated, "tags": [*(tags if isinstance(tags, list) else [tags]), *found["tags"]]}


def card_text(call: Call, repository: Repository, commit: Commit, path: str = "README.md") -> str | None:
    """The card of a commit, or another text; None when it has none, or one longer than any card."""
    entry = commit.files.get(path)
    if entry is None or entry.size > _LONGEST_CARD:
        return None
    return call.store.blob(repository.repo, entry.sha256).read_text("utf-8", "replace")


def card_data(call: Call, repository: Repository, commit: Commit, path: str = "README.md") -> dict[str, Any]:
    """The card's metadata; empty when the card or its YAML is missing or broken."""
    try:
        return front_matter(card_text(call, repository, commit, path) or "")
    except ValueError:
        return {}


def validate_yaml(call: Call) -> Response:
    """Check the metadata of a card, before a client commits it."""
    try:
        metadata = front_matter(text_field(call.json(), "content"))
        wrong = [
            f'"{field}" must be {" or ".join("text" if kind is str else "a list" for kind in kinds)}'
            for fields, kinds in _FIELD_TYPES.items()
            for field in fields
            if metadata.get(field) is not None and not isinstance(metadata[field], kinds)
        ]
    except ValueError as error:
        metadata, wrong = {}, [str(error)]
    if wrong:
        refused = malformed("Invalid metadata in README.md")
        refused.extra.update(errors=[{"message": each} for each in wrong], warnings=[])
        raise refused
    missing = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
    return answer({"errors": [], "warnings": missing})


# References and history


def refs(call: Call) -> Response:
    repository = call.readable()
    pulls = repository.pulls if call.flag("include_prs") else ()
    return answer(
        {
            "branches": _refs("heads", repository.branches),
            "tags": _refs("tags", repository.tags),
            "converts": [],
            "pullRequests": [{"name": each.ref, "ref": each.ref, "targetCommit": each.head} for each in pulls],
        }
    )


def create_branch(call: Call) -> Response:
    start = text_field(call.json("startingPoint"), "startingPoint", MAIN)
    call.store.create_ref(call.writable().repo, "heads", call.revision, start)
    return answer({})


def delete_ref(call: Call) -> Response:
    call.store.delete_ref(call.writable().repo, "tags" if call.args["ref"] == "tag" else "heads", call.revision)
    return answer({})


def create_tag(call: Call) -> Response:
    name = text_field(call.json("tag", "message"), "tag")
    call.store.create_ref(call.writable().repo, "tags", name, call.revision)
    return answer({})


def _refs(folder: str, names: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": commit_id} for name, commit_id in names.items()
    ]


def squash(call: Call) -> Response:
    repository, message = call.writable(), text_field(call.json("message"), "message")
    call.store.squash(repository.repo, call.revision, message, call.require_user())
    return answer({})


def history(call: Call) -> Response:
    """The commits of a revision, newest first; where that is asked for, with title and message as HTML too."""
    formatted, commits = "formatted" in call.request.query_params.getlist("expand[]"), []
    for each in call.store.ancestry(call.readable(), call.revision):
        texts = {"title": each.title, "message": each.message}
        shown = {"formatted": {name: html.escape(text) for name, text in texts.items()}} if formatted else {}
        commits.append({"id": each.id, **texts, "authors": [{"user": each.author}], "date": each.date, **shown})
    return answer(commits)


# Pull requests, which the clients call discussions


def pulls(call: Call) -> Response:
    """All of them, newest first, narrowed by `type`, `status` and `author`."""
    repository, query = call.readable(), call.request.query_params
    kind, status, author = (query.get(name) for name in ("type", "status", "author"))
    found = [
        each
        for each in reversed(repository.pulls)
        if kind in (None, "all", "pull_request")
        and status in (None, "all", "open" if each.is_open else "closed")
        and author in (None, each.author)
    ]
    shown = [_describe_pull(repository, each) for each in found]
    return answer({"discussions": shown, "count": len(found), "start": 0})


def set_pull_status(call: Call) -> Response:
    """Close a pull request or open it again: its author or who may write here."""
    repository, user, wanted = call.readable(), call.require_user(), call.json("status")
    number, status = whole_number(call.args["number"]), text_field(wanted, "status")
    if user != find_pull(repository, number).author:
        call.require_writer(repository.repo.namespace)
    if status not in ("open", "closed"):
        raise malformed(f"Unknown status: {status!r}")
    call.store.set_status(repository.repo, number, status)
    event = {"id": "", "type": "status-change", "createdAt": repository.created_at, "author": {"name": user}}
    return answer({"newStatus": {**event, "data": {"status": status}}})


def merge_pull(call: Call) -> Response:
    repository = call.writable()
    refuse_others(call.json(), ())
    commit = call.store.merge(repository.repo, whole_number(call.args["number"]), call.require_user())
    return answer({"mergeCommitId": commit.id})


def _describe_pull(repository: Repository, pull: PullRequest) -> dict[str, object]:
    return {
        "num": pull.number,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": pull.created_at,
        "status": pull.status,
        "isPullRequest": True,
        "repo": {"name": str(repository.repo), "type": repository.repo.kind.removesuffix("s")},
    }


# What clients try that this Hub has not


def no_xet(call: Call) -> Response:
    """Lead Xet, which shows the address of a refusal alone, to one that says what to do."""
    address = "/This-Hub-has-no-Xet:set-HF_HUB_DISABLE_XET=1"
    raise RefusedError(307, "This Hub has no Xet: set HF_HUB_DISABLE_XET=1", headers={"Location": address})


def no_git(call: Call) -> Response:
    """Refuse git in plain text, the only one that it shows."""
    kind = call.args.get("kind", "models")[:-1]
    repo = f"{'' if kind == 'model' else f'--repo-type {kind} '}{call.repo()}"
    told = f"hf download {repo} --local-dir {call.repo().name}\nhf upload {repo} FOLDER"
    return Response(f"This Hub has no git. With HF_ENDPOINT={call.endpoint}:\n{told}\n", 403, media_type="text/plain")


# What the Hub reads from a model's files where its card is silent: library, task, base, and tags

# The task, by how the name of a transformers architecture ends, and by peft's name for it.
_TASKS = {
    ("ForCausalLM", "LMHeadModel", "CAUSAL_LM"): "text-generation",
    ("ForSequenceClassification", "SEQ_CLS"): "text-classification",
    ("ForTokenClassification", "TOKEN_CLS"): "token-classification",
    ("ForQuestionAnswering", "QUESTION_ANS"): "question-answering",
    ("ForMaskedLM",): "fill-mask",
    ("ForImageClassification",): "image-classification",
    ("ForCTC", "ForSpeechSeq2Seq"): "automatic-speech-recognition",
}
_REPO_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def _of_files(paths: Collection[str], read: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """What the files at `paths` say; `read` gives a JSON file, or nothing of it."""
    suffixes = {PurePosixPath(path).suffix for path in paths}
    tags = [tag for tag in ("safetensors", "gguf", "onnx") if f".{tag}" in suffixes]
    library, task, base, relation = None, None, None, "finetune"
    if adapter := read("adapter_config.json"):
        library, task, relation = "peft", _task(adapter.get("task_type")), "adapter"
        base = _REPO_NAME.fullmatch(str(adapter.get("base_model_name_or_path")))  # else a folder where it was trained
    elif "modules.json" in paths:
        library, task = "sentence-transformers", "sentence-similarity"
    elif isinstance(model_type := (config := read("config.json")).get("model_type"), str):
        names = config.get("architectures")
        library, task = "transformers", _task(names[0] if isinstance(names, list) and names else None)
        if task is None and "vision_config" in config:
            task = "image-text-to-text"
        tags.append(model_type)
    elif "gguf" in tags:
        library, relation = "gguf", "quantized"
    found = {"library_name": library, "pipeline_tag": task, "base_model": base and base[0]}
    found = {name: value for name, value in found.items() if value is not None}
    return {**found, "base_model_relation": relation, "tags": tags}


def _task(name: object) -> str | None:
    return next((task for ends, task in _TASKS.items() if str(name).endswith(ends)), None)
