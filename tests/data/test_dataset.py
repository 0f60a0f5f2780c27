"""Datasets of strangers: every row is a conversation with an answer, or the file and the row are named."""

import gzip
import json
import shutil

import pyarrow
import pyarrow.parquet
import pytest

from support.validation import codes, finding
from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import write_manifest
from toolkit.data.dataset import count_rows, description_of, locate_dataset, read_split
from toolkit.data.validation import validate

QUESTION = {"role": "user", "content": "Name it.\n\nA red fox."}
ANSWER = {"role": "assistant", "content": "Vulpix"}
GOOD = {"messages": [QUESTION, ANSWER]}
FILE = "train-00000-of-00001.parquet"


def dataset(folder, lines, split="train"):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(lines)
    pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return locate_dataset(str(folder))


@pytest.mark.parametrize(
    ("before", "messages", "said"),
    [
        ([GOOD], None, "is not a list of turns"),
        ([GOOD], [QUESTION, {"role": "assistant", "content": None}], "turn 1 of `messages` has no text as `content`"),
        ([GOOD], [None, ANSWER], "turn 0 of `messages` has no text as `role`"),
        ([GOOD], [ANSWER], "at least two turns"),
        ([GOOD], [ANSWER, QUESTION], "the last turn is of the role 'user'"),
        ([], "hello", "is not a list of turns"),
        ([], [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}], "turn 0 of `messages` has no text as"),
    ],
)
def test_a_row_without_a_question_and_its_answer_is_named_with_its_file(tmp_path, before, messages, said):
    with pytest.raises(InputError) as caught:
        read_split(dataset(tmp_path, [*before, {"messages": messages}]), "train")
    assert f"data/{FILE}, row {len(before)}: " in caught.value.found
    assert said in caught.value.found
    assert caught.value.remedy == "Run `pkt validate` on the dataset."


def test_a_turn_keeps_its_role_and_content_only(tmp_path):
    found = dataset(
        tmp_path, [{"messages": [QUESTION | {"tool_calls": None}, ANSWER | {"tool_calls": "x"}], "id": "1"}]
    )
    assert read_split(found, "train") == [GOOD | {"id": "1"}]


def test_a_damaged_split_is_an_input_error_when_rows_are_counted_too(tmp_path):
    found = dataset(tmp_path, [GOOD])
    (tmp_path / "data" / FILE).write_bytes(b"PAR1 nothing")
    for look in (read_split, count_rows):
        with pytest.raises(InputError, match="is not a readable Parquet file"):
            look(found, "train")


def test_text_that_is_not_utf8_is_an_input_error(tmp_path):
    found = dataset(tmp_path, [GOOD])
    table = pyarrow.table({"messages": [GOOD["messages"]], "note": pyarrow.array([b"\xff\xfe"]).view("string")})
    pyarrow.parquet.write_table(table, tmp_path / "data" / FILE)
    with pytest.raises(InputError, match="is not a readable Parquet file"):
        read_split(found, "train")


def test_a_question_of_one_paragraph_is_the_description_itself():
    only = {"messages": [{"role": "user", "content": "A red fox."}, ANSWER]}
    assert description_of(only) == "A red fox."
    assert description_of(GOOD) == "A red fox."
    assert description_of(GOOD | {"description": "Its own."}) == "Its own."


@pytest.mark.parametrize("manifest", [[1], "x", {"sources": ["a"]}, {"kind": "dataset", "license": 3}])
def test_a_manifest_of_another_tool_is_none(tmp_path, manifest):
    found = dataset(tmp_path, [GOOD])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert found.manifest() == {}


def test_a_missing_folder_that_looks_like_a_hub_id_is_said_to_be_missing(tmp_path, monkeypatch):
    from toolkit.hub.local.serve import running_hub

    monkeypatch.chdir(tmp_path)
    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(
            HubError, match="There is no folder data/missing, and the dataset data/missing does not exist"
        ):
            locate_dataset("data/missing")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"There is no folder data/missing, and .* cannot be reached"):
        locate_dataset("data/missing")


LINES = [GOOD | {"id": str(number)} for number in range(3)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.jsonl", "\n".join(map(json.dumps, LINES)) + "\n\n"),
        ("train.json", json.dumps(LINES, indent=1)),
        ("data/train.json", "\ufeff" + json.dumps({"version": 2, "data": LINES})),
        ("mine.ndjson", "\r\n".join(map(json.dumps, LINES))),
        ("train-00000-of-00001.jsonl.gz", "\n".join(map(json.dumps, LINES))),
    ],
)
def test_rows_of_json_are_read_counted_hashed_and_validated_as_those_of_parquet(tmp_path, name, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    with (gzip.open if name.endswith(".gz") else open)(tmp_path / name, "wt", encoding="utf-8", newline="") as file:
        file.write(text)
    found = locate_dataset(str(tmp_path))
    assert read_split(found, "train") == LINES
    assert (count_rows(found, "train"), validate(tmp_path).rows) == (3, {"train": 3})
    before = found.rows_hash()
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    assert found.rows_hash() != before


def test_columns_that_nobody_learns_from_may_hold_values_of_several_types(tmp_path):
    rows = [GOOD | {"id": id, "meta": meta} for id, meta in ((1, None), ("b", {"a": 1}), (None, "c"))]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    found = read_split(locate_dataset(str(tmp_path)), "train")
    assert [(row["id"], row["meta"]) for row in found] == [("1", None), ("b", '{"a": 1}'), (None, "c")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"messages": [', "not a readable table of JSON: Expecting ',' delimiter: line 2"),
        ("[1]", "train.jsonl holds something else than rows"),
        ('{"messages": 1}', "train.jsonl is not a readable table of JSON"),
    ],
)
def test_damaged_json_is_one_line_with_its_place_and_a_finding(tmp_path, row, said):
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(GOOD)}\n{row}\n")
    with pytest.raises(InputError) as caught:
        read_split(locate_dataset(str(tmp_path)), "train")
    assert said in caught.value.found
    assert codes(validate(tmp_path)) == {"schema.file"}


def test_chat_rows_of_another_form_are_named_with_their_columns_and_what_is_wanted(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"instruction": "x", "input": "", "output": "y"}))
    with pytest.raises(InputError) as caught:
        read_split(locate_dataset(str(tmp_path)), "train")
    assert "no `messages`; its columns are instruction, input, output" in caught.value.found
    assert "a list of {role: user or assistant, content}" in caught.value.remedy
    assert caught.value.found[-50:-1] in finding(validate(tmp_path), "schema.messages").places[0].excerpt


def test_a_config_is_chosen_behind_a_colon_of_a_folder(tmp_path):
    for config in ("en", "ko"):
        (tmp_path / config).mkdir()
        (tmp_path / config / "train.jsonl").write_text(json.dumps(GOOD | {"id": config}))
    with pytest.raises(InputError, match="several configs: en, ko"):
        read_split(locate_dataset(str(tmp_path)), "train")
    assert [row["id"] for row in read_split(locate_dataset(f"{tmp_path}:ko"), "train")] == ["ko"]
    assert validate(f"{tmp_path}:en").rows == {"train": 1}


def test_a_dataset_of_the_hub_in_any_layout_is_downloaded_as_far_as_it_is_read(tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    from toolkit.hub.local.serve import running_hub

    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        api = HfApi(endpoint=url)
        api.create_repo("me/chat", repo_type="dataset")
        for name in ("en/train[1].jsonl", "ko/train.jsonl", "images/big.bin"):
            row = json.dumps(GOOD | {"id": name}).encode()
            api.upload_file(path_or_fileobj=row, path_in_repo=name, repo_id="me/chat", repo_type="dataset")
        with pytest.raises(InputError, match="me/chat has several configs: en, ko"):
            locate_dataset("me/chat")
        found = locate_dataset("me/chat:en")
        assert [row["id"] for row in read_split(found, "train")] == ["en/train[1].jsonl"]
        assert {path.name for path in found.path.rglob("*") if path.is_file()} == {"train[1].jsonl"}


@pytest.mark.parametrize("change", ["lost", "replaced", "added"])
def test_a_split_that_is_not_what_the_manifest_names_is_an_input_error(tmp_path, change):
    located = dataset(tmp_path, [GOOD])
    dataset(tmp_path, [GOOD, GOOD], "test")
    write_manifest(tmp_path, "dataset", {})
    train, test = (tmp_path / "data" / f"{split}-00000-of-00001.parquet" for split in ("train", "test"))
    assert len(read_split(located, "train")) == 1
    if change == "lost":
        train.unlink()
    elif change == "replaced":
        train.write_bytes(test.read_bytes())
    else:
        shutil.copy(train, tmp_path / "data" / "train-00001-of-00002.parquet")
    with pytest.raises(InputError, match=r"not as its manifest\.json says: data/train-0000"):
        read_split(located, "train")
    assert len(read_split(located, "test")) == 2
