"""Rows as tokens: what is marked is what training learns, and every text is readable."""

import pyarrow
import pyarrow.parquet
import pytest

from support.models import small_model
from toolkit.core.errors import InputError
from toolkit.core.layout import TINY_BASE_ID
from toolkit.data.dataset import locate_dataset
from toolkit.data.inspect import inspect_dataset, pieces
from toolkit.model import chat
from toolkit.training.packing import collate


def turns(*texts, first="user"):
    roles = ["system", "user", "assistant"] if first == "system" else ["user", "assistant"]
    others = ["user", "assistant"] * len(texts)
    return [{"role": role, "content": text} for role, text in zip([*roles, *others], texts, strict=False)]


ROWS = {
    "one question": turns("Name it.\n\nA small red fox.", "Vulpix"),
    "several turns": turns("Hello.", "Hi.", "Name it.\n\nA blue shell.", "Squirtle"),
    "a system turn": turns("Answer in one word.", "A fox.", "Vulpix", first="system"),
    "Korean": turns("다음 특성을 살린 이름을 지어줘:\n\n꼬리가 여섯인 뷁여우 🦊", "식스테일 (Vulpix) 똠"),
    "a lost character": turns("a\ufffdb \ufffd", "x\ufffd"),
}


@pytest.fixture
def dataset(tmp_path, use_small_base):
    (tmp_path / "data").mkdir()
    rows = [{"id": name, "messages": messages} for name, messages in ROWS.items()]
    for split, held in {"train": rows, "test": rows[:1]}.items():
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(held), tmp_path / "data" / f"{split}-0.parquet")
    return locate_dataset(str(tmp_path))


@pytest.mark.parametrize("number", range(len(ROWS)), ids=ROWS)
def test_the_marked_tokens_are_those_that_training_learns(dataset, tokenizer, number):
    row = inspect_dataset(dataset, TINY_BASE_ID, number)
    example = chat.encode(tokenizer, list(ROWS.values())[number])
    inputs, answers = collate([example], small_model("llama"))
    ids = [token for piece in row.pieces for token in piece.ids]
    marked = [place for place, piece in enumerate(_spread(row.pieces)) if piece.supervised]
    # The last token predicts nothing and is not read.
    assert ids[:-1] == inputs["input_ids"][0].tolist()
    # Each logit that is kept predicts the token after it.
    assert marked == [place + 1 for place in inputs["logits_to_keep"].tolist()]
    assert [ids[place] for place in marked] == answers.tolist()
    assert (row.tokens, row.supervised) == (len(ids), len(marked))
    assert row.row_id == list(ROWS)[number]


def _spread(found):
    return [piece for piece in found for _ in piece.ids]


@pytest.mark.parametrize("number", range(len(ROWS)), ids=ROWS)
def test_the_pieces_are_the_text_and_hold_whole_characters(dataset, tokenizer, number):
    row = inspect_dataset(dataset, TINY_BASE_ID, number)
    text = "".join(piece.text for piece in row.pieces)
    assert text == tokenizer.decode([token for piece in row.pieces for token in piece.ids])
    assert all(turn["content"] in text for turn in list(ROWS.values())[number])
    assert text.startswith("<bos><start_of_turn>user\n")
    assert row.pieces[-1].text == "<end_of_turn>"
    assert text.count("\ufffd") == sum(turn["content"].count("\ufffd") for turn in list(ROWS.values())[number])


def test_a_character_of_several_tokens_is_one_piece(tokenizer):
    ids = tokenizer("뷁", add_special_tokens=False).input_ids
    assert len(ids) > 1
    (piece,) = pieces(tokenizer, ids, 0)
    assert (piece.text, piece.ids) == ("뷁", ids)


def test_blanks_between_tokens_stay_where_a_tokenizer_writes_none_at_the_beginning_of_a_text():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"▁A": 0, "▁red": 1, "▁fox": 2}, unk_token="▁A"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    found = pieces(PreTrainedTokenizerFast(tokenizer_object=backend), [0, 1, 2], 2)
    assert [piece.text for piece in found] == ["A", " red", " fox"]


def test_without_a_row_the_first_of_the_first_split_is_shown(dataset):
    report = inspect_dataset(dataset, TINY_BASE_ID)
    assert report.rows == {"train": len(ROWS), "test": 1}
    assert (report.split, report.row, report.toolkit) == ("train", 0, None)


@pytest.mark.parametrize(
    ("row", "split", "said"),
    [
        (5, None, "no row 5 in its split train. Its rows are train 0 to 4, test 0 to 0."),
        (-1, None, "no row -1"),
        (0, "validation", "no row 0 in its split validation"),
    ],
)
def test_a_row_or_split_that_is_not_there_is_said_with_those_that_are(dataset, row, split, said):
    with pytest.raises(InputError) as caught:
        inspect_dataset(dataset, TINY_BASE_ID, row, split)
    assert said in str(caught.value)


def test_a_row_that_training_refuses_is_refused_with_its_place(tmp_path, use_small_base):
    (tmp_path / "data").mkdir()
    table = pyarrow.Table.from_pylist([{"messages": turns("A fox.", "Vulpix<end_of_turn>")}])
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train-0.parquet")
    with pytest.raises(InputError, match=r"Row 0 of train: .* control token"):
        inspect_dataset(locate_dataset(str(tmp_path)), TINY_BASE_ID)
