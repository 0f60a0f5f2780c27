"""Lines come one by one, each with its place, and what is no text is named."""

import io
import json
import sys
from pathlib import Path

import pytest

from toolkit.cli.ask import read_descriptions, read_lines
from toolkit.core.errors import InputError


def written(tmp_path, content, name="creatures.txt"):
    file = tmp_path / name
    file.write_bytes(content)
    return file


def test_empty_lines_are_skipped_and_still_counted(tmp_path):
    file = written(tmp_path, "\ufeffA red fox.\r\n\n \t\n  꼬리가 여섯이다.".encode())
    found = [(line.text, line.where) for line in read_lines(file)]
    assert found == [("A red fox.", f"Line 1 of {file}"), ("꼬리가 여섯이다.", f"Line 4 of {file}")]


def test_standard_input_is_read_no_further_than_asked_for(monkeypatch):
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readline(self, _size=-1):
            return b"A red fox.\n"

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Endless()))
    lines = read_lines(Path("-"))
    assert [next(lines).where for _ in range(3)] == [f"Line {number} of standard input" for number in (1, 2, 3)]


def test_lines_before_one_that_is_not_utf8_are_given(tmp_path):
    lines = read_lines(written(tmp_path, b"A fox.\n\nA \xb2\xb2\n"))
    assert next(lines).text == "A fox."
    with pytest.raises(InputError, match=r"Line 3 of .*creatures\.txt is not UTF-8"):
        next(lines)


def test_json_lines_give_their_descriptions(tmp_path):
    rows = ({"description": "A fox.\nIt is red.", "id": 1}, {"description": "여우"})
    file = written(tmp_path, "".join(json.dumps(row) + "\n" for row in rows).encode(), "samples.jsonl")
    assert [line.text for line in read_descriptions(file)] == ["A fox.\nIt is red.", "여우"]


@pytest.mark.parametrize("line", ["{", "[1]", '"A fox."', "{}", '{"description": null}', '{"description": 3}'])
def test_a_line_of_json_lines_without_a_description_is_named(tmp_path, line):
    file = written(tmp_path, f'{{"description": "A fox."}}\n{line}\n'.encode(), "samples.jsonl")
    with pytest.raises(InputError, match=r"Line 2 of .*samples\.jsonl (is not JSON|has no text)"):
        list(read_descriptions(file))


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(InputError, match=f"{path.name} cannot be read"):
            list(read_lines(path))
