"""The journal: finished pieces are not done again, whatever happened to the file; other work begins anew."""

import pytest

from toolkit.core.errors import InputError, ToolkitError
from toolkit.evaluation.answers import Journal


def write(file, key, pieces):
    journal = Journal(file, key)
    for piece, result in pieces.items():
        journal.keep(piece, result)
    journal.close()


def test_what_was_finished_is_kept(tmp_path):
    write(tmp_path / "new" / "j", "k", {"a": [1.5, "나"], "b": {"c": None}})
    journal = Journal(tmp_path / "new" / "j", "k")
    assert journal.found == 2
    journal.keep("a", "another result")
    assert journal.results == {"a": [1.5, "나"], "b": {"c": None}}
    journal.close()


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_file_that_was_cut_anywhere_gives_whole_pieces_and_goes_on(tmp_path, cut):
    write(tmp_path / "j", "k", {"a": "가", "b": "나"})
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-cut])
    journal = Journal(tmp_path / "j", "k")
    assert journal.found <= 1
    journal.keep("a", "가")
    journal.keep("b", "나")
    journal.close()
    assert (tmp_path / "j").read_bytes() == whole


def test_answers_of_other_work_are_discarded_only_by_a_restart(tmp_path):
    write(tmp_path / "j", "k", {"a": 1})
    kept = (tmp_path / "j").read_bytes()
    with pytest.raises(InputError, match=r"holds answers of an interrupted evaluation .* `restart=True`"):
        Journal(tmp_path / "j", "other")
    assert (tmp_path / "j").read_bytes() == kept
    journal = Journal(tmp_path / "j", "other", restart=True)
    assert journal.found == 0
    journal.keep("a", 2)
    journal.close()
    journal = Journal(tmp_path / "j", "other")
    assert journal.results == {"a": 2}
    journal.close()


def test_a_removed_or_an_empty_journal_leaves_nothing(tmp_path):
    Journal(tmp_path / "j", "k").remove()
    Journal(tmp_path / "j", "k").close()
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolkitError, match="cannot be written"):
        Journal(tmp_path / "file" / "j", "k")
