"""Datasets of strangers: every row is a conversation with an answer, or the file and the row are named."""

import json
import shutil

import pyarrow
import pyarrow.parquet
import pytest

from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import write_manifest
from toolkit.data.dataset import count_rows, description_of, locate_dataset, read_split

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
        ([GOOD], [QUESTION, {"role": "assistant", "content": None}], "the `content` of turn 1 is null"),
        ([GOOD], [{"role": None, "content": "x"}, ANSWER], "the `role` of turn 0 is null"),
        ([GOOD], [None, ANSWER], "turn 0 of `messages` is not {role, content}"),
        ([GOOD], [], "at least two turns"),
        ([GOOD], [ANSWER], "at least two turns"),
        ([GOOD], [ANSWER, QUESTION], "the last turn is of the role 'user'"),
        ([], "hello", "is not a list of turns"),
        ([], ["hello", "hi"], "turn 0 of `messages` is not {role, content}"),
        ([], [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}], "turn 0 of `messages` has no `role`"),
        ([], [{"role": "user", "content": ["x"]}, {"role": "assistant", "content": ["y"]}], "of turn 0 is not text"),
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
