"""Datasets on a Hub and in folders: the seed's schema without its images, others by their columns, and every refusal.

One process reads all cases, because `datasets` reads `HF_ENDPOINT` once, when it is imported.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from starlette.requests import Request
from starlette.responses import Response

from support.faults import intercepted
from support.sources import read
from toolkit.core.errors import InputError
from toolkit.hub.local.serve import running_hub

READ_ALL = """
import json, sys
from toolkit.core.errors import ToolkitError
from toolkit.core.recipe import SourceSettings
from toolkit.data.sources.hub import read_hub

for name, settings in json.load(sys.stdin).items():
    try:
        facts, records = read_hub(SourceSettings(name="hub", **settings), ["en"])
        rows = [[dict(r.names), r.description, r.family, r.source_ref] for r in records]
        print(json.dumps({"case": name, "rows": rows, "location": facts.location, "license": facts.license,
                          "revision": facts.revision}), flush=True)
    except ToolkitError as error:
        print(json.dumps({"case": name, "error": type(error).__name__, "said": str(error)}), flush=True)
"""

CASES: dict[str, dict[str, str]] = {
    "seed": {"location": "ash/seed"},
    "other": {
        "location": "ash/other",
        "description_column": "text",
        "name_column": "who",
        "name_language": "ko",
        "family_column": "kind",
    },
    "lines": {"location": "ash/lines"},
    "labels": {"location": "ash/labels", "name_column": "label", "family_column": "kind"},
    "no such label": {"location": "ash/wrong-labels", "name_column": "label"},
    "captions": {"location": "ash/captions"},
    "several": {"location": "ash/several"},
    "one config": {"location": "ash/several:ko"},
    "no such config": {"location": "ash/several:fr"},
    "chat": {"location": "ash/chat", "description_column": "messages"},
    "no columns": {"location": "ash/chat", "description_column": "nothing"},
    "private": {"location": "ash/private"},
    "gated": {"location": "ash/gated"},
    "script": {"location": "ash/script"},
    "broken": {"location": "ash/broken"},
    "empty": {"location": "ash/empty"},
    "missing": {"location": "ash/missing"},
    "revision": {"location": "ash/seed", "revision": "v9"},
    "no id": {"location": "a/b/c/d"},
}
IMAGE_BYTES = 200_000


def parquet(columns: dict[str, Any], group: int | None = None) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, row_group_size=group)
    return stream.getvalue()


def seed_file(first: int) -> bytes:
    """Twenty rows of the seed's schema, in small row groups: captions between images."""
    images = [{"bytes": os.urandom(IMAGE_BYTES), "path": None} for _ in range(20)]
    captions = [f"Mon{number}: Number {number}: it is odd." for number in range(first, first + 20)]
    captions[:2] = ["**Mr. Mime**: It mimes.", "no name here"]
    return parquet({"image": images, "en_text": captions}, group=5)


def repositories() -> dict[str, dict[str, bytes]]:
    """What lies on the Hub, by name and path."""
    rows = parquet({"name": ["Rex"], "description": ["A brown dog."]})
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("en", "ko"))
    label = "\n    dtype:\n      class_label:\n        names:\n          '0': Rex\n          '1': Tom\n"
    columns = "  - name: description\n    dtype: string\n" + "".join(
        f"  - name: {name}{label}" for name in ("label", "kind")
    )
    labelled = f"---\ndataset_info:\n  features:\n{columns}---\n".encode()
    return {
        "labels": {
            "README.md": labelled,
            "train.parquet": parquet({"description": ["A dog.", "A cat."], "label": [0, -1], "kind": [1, 0]}),
        },
        "wrong-labels": {"README.md": labelled, "train.jsonl": b'{"description": "A dog.", "label": 2, "kind": 0}\n'},
        "seed": {
            "README.md": b"---\nlicense: cc-by-4.0\n---\n",
            "data/train-00000-of-00002.parquet": seed_file(0),
            "data/train-00001-of-00002.parquet": seed_file(20),
        },
        "other": {
            "data/train.parquet": parquet({"who": ["Rex"], "text": ["A dog."], "kind": ["dogs"], "image": [b"x"]}),
            "data/test.parquet": parquet(
                {name: pa.array([], pa.string()) for name in ("who", "text", "kind")}
                | {"image": pa.array([], "binary")}
            ),
        },
        "lines": {"train.jsonl": b'{"name": "Rex", "description": "A dog.", "age": 3}\n'},
        "captions": {"train.parquet": parquet({"name": ["Rex"], "description": [["A dog.", "It barks."]]})},
        "several": {"README.md": f"---\nconfigs:\n{configs}---\n".encode(), "en/a.parquet": rows, "ko/a.parquet": rows},
        "chat": {"train.parquet": parquet({"name": ["Rex"], "messages": [[{"role": "user", "content": "hi"}]]})},
        "private": {"train.parquet": rows},
        "gated": {"train.parquet": rows},
        "script": {"script.py": b"import datasets\n"},
        "broken": {"train.parquet": rows[: len(rows) // 2]},
        "empty": {},
    }


class Counted:
    """The Hub, and how many bytes of files it has sent from each repository."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.sent: dict[str, int] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counting(message: Any) -> None:
            if "/resolve/" in scope.get("path", ""):
                name = scope["path"].split("/")[3]
                self.sent[name] = self.sent.get(name, 0) + len(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, counting)


def gate(request: Request) -> Response | None:
    """As the public Hub answers for files whose licence was not accepted."""
    if not any(f"/ash/gated/{asked}" in request.url.path for asked in ("resolve", "auth-check")):
        return None
    return Response(status_code=403, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})


Outcomes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Counted]]:
    made: list[Counted] = []

    def counted(app: Any) -> Any:
        made.append(Counted(intercepted(app, gate)))
        return made[-1]

    with running_hub(tmp_path_factory.mktemp("hub"), tokens={"hf_secret": "ash"}, wrap=counted) as url:
        api = HfApi(endpoint=url, token="hf_secret")
        for name, files in repositories().items():
            api.create_repo(f"ash/{name}", repo_type="dataset", private=name == "private")
            changes = [CommitOperationAdd(path, body) for path, body in files.items()]
            if changes:
                api.create_commit(f"ash/{name}", changes, commit_message="rows", repo_type="dataset")
        made[-1].sent.clear()
        yield url, made[-1]


@pytest.fixture(scope="module")
def outcomes(hub: tuple[str, Counted], tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL],
        input=json.dumps(CASES),
        cwd=home,
        env={**kept, "HF_ENDPOINT": hub[0], "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {outcome.pop("case"): outcome for outcome in map(json.loads, done.stdout.splitlines())}


def test_the_seeds_data_is_split_into_names_and_descriptions_without_a_flag(outcomes: Outcomes) -> None:
    found = outcomes["seed"]
    assert len(found["rows"]) == 40
    assert [row[:2] for row in found["rows"][:3]] == [
        [{"en": "Mr. Mime"}, "It mimes."],
        [{}, "no name here"],
        [{"en": "Mon2"}, "Number 2: it is odd."],
    ]
    assert found["rows"][39][3] == f"ash/seed@{found['revision'][:12]}/train:40"
    assert (found["location"], found["license"], len(found["revision"])) == ("ash/seed", "cc-by-4.0", 40)


def test_images_are_not_downloaded(hub: tuple[str, Counted], outcomes: Outcomes) -> None:
    assert len(outcomes["seed"]["rows"]) == 40
    assert hub[1].sent["seed"] < 40 * IMAGE_BYTES / 8


def test_another_schema_is_read_by_its_columns_with_an_empty_split(outcomes: Outcomes) -> None:
    assert [row[:3] for row in outcomes["other"]["rows"]] == [[{"ko": "Rex"}, "A dog.", "dogs"]]


def test_numbers_of_labels_are_read_as_their_names(outcomes: Outcomes) -> None:
    assert [row[:3] for row in outcomes["labels"]["rows"]] == [[{"en": "Rex"}, "A dog.", "Tom"], [{}, "A cat.", "Rex"]]


def test_json_lines_on_the_hub_are_read(outcomes: Outcomes) -> None:
    assert [row[:2] for row in outcomes["lines"]["rows"]] == [[{"en": "Rex"}, "A dog."]]


def test_several_captions_of_a_row_are_records_of_their_own(outcomes: Outcomes) -> None:
    assert [row[1] for row in outcomes["captions"]["rows"]] == ["A dog.", "It barks."]


def test_one_of_several_configs_is_named_behind_a_colon(outcomes: Outcomes) -> None:
    assert [row[1] for row in outcomes["one config"]["rows"]] == ["A brown dog."]
    assert outcomes["one config"]["location"] == "ash/several:ko"


@pytest.mark.parametrize(
    ("case", "kind", "said"),
    [
        ("several", "InputError", "has several configs; its configs are en, ko. Name one behind a colon"),
        ("no such config", "InputError", "has no config 'fr'; its configs are en, ko."),
        ("no such label", "InputError", "split train, row 1 has 2 in 'label', whose 2 labels are numbered from 0"),
        ("chat", "InputError", "The dataset ash/chat, split train, row 1 has an object in 'messages'"),
        ("no columns", "InputError", "ash/chat has no column 'nothing' (`description_column`)"),
        ("private", "HubError", "The dataset ash/private does not exist on"),
        ("gated", "EnvironmentLacks", "The dataset ash/gated is gated. Accept its licence on"),
        ("script", "InputError", "Dataset scripts are no longer supported"),
        ("broken", "InputError", "The dataset ash/broken cannot be read"),
        ("empty", "InputError", "The dataset ash/empty cannot be read"),
        ("missing", "HubError", "The dataset ash/missing does not exist on"),
        ("revision", "HubError", "The dataset ash/seed has no such revision on"),
        ("no id", "InputError", "The dataset a/b/c/d is not a Hub id"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_what_to_do(outcomes: Outcomes, case: str, kind: str, said: str) -> None:
    assert outcomes[case]["error"] == kind, outcomes[case]
    assert said in outcomes[case]["said"]
    assert "\n" not in outcomes[case]["said"]


# --- folders laid out like a dataset


def test_a_folder_is_read_like_a_dataset(tmp_path: Path) -> None:
    texts = ["Pikachu: A yellow mouse: it sparks.", "Farfetch'd: A duck.", "no name here"]
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed" / "train-00000-of-00001.parquet").write_bytes(parquet({"en_text": texts, "image": [b"x"] * 3}))
    records, facts = read("hub", location=str(tmp_path / "seed"))
    assert [(record.names.get("en"), record.description) for record in records] == [
        ("Pikachu", "A yellow mouse: it sparks."),
        ("Farfetch'd", "A duck."),
        (None, "no name here"),
    ]
    assert facts.location == "seed"


def test_a_folder_without_the_columns_says_which_it_has(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(InputError, match="its columns are 'text'"):
        read("hub", location=str(tmp_path))


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Leave `revision` out"):
        read("hub", location=str(tmp_path), revision="main")
