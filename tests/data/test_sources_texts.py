"""Files of texts, one on each line or a column of a table, as `pkt name --from` and `--candidates` read them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.core.errors import InputError
from toolkit.data.sources.formats import read_texts


def texts(folder: Path, content: str | bytes, name: str = "creatures.txt", column: str = "description") -> list[str]:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [text for text, _ in read_texts(file, column)[1]]


def test_empty_lines_are_skipped_and_still_counted(tmp_path: Path) -> None:
    file = tmp_path / "creatures.txt"
    file.write_bytes("\ufeffA red fox.\r\n\n \t\n  꼬리가 여섯이다.".encode())
    found = [("A red fox.", f"Line 1 of {file}"), ("꼬리가 여섯이다.", f"Line 4 of {file}")]
    assert list(read_texts(file, "description")[1]) == found


def test_standard_input_is_read_no_further_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readline(self, _size: int | None = -1) -> bytes:
            return b"A red fox.\n"

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Endless()))  # type: ignore[type-var]
    lines = read_texts(Path("-"), "description")[1]
    assert [next(lines)[1] for _ in range(3)] == [f"Line {number} of standard input" for number in (1, 2, 3)]


def test_lines_before_one_that_is_not_utf8_are_given(tmp_path: Path) -> None:
    (tmp_path / "creatures.txt").write_bytes(b"A fox.\n\nA \xb2\xb2\n")
    lines = read_texts(tmp_path / "creatures.txt", "description")[1]
    assert next(lines)[0] == "A fox."
    with pytest.raises(InputError, match=r"Line 3 of .*creatures\.txt is not UTF-8"):
        next(lines)


@pytest.mark.parametrize(
    ("name", "content", "column", "found"),
    [
        ("a.jsonl", '{"description": "A fox.\\nRed.", "id": 1}\n"여우"\n', "description", ["A fox.\nRed.", "여우"]),
        ("a.json", '["Rex", "Tom"]', "name", ["Rex", "Tom"]),
        ("a.json", '{"answers": ["Rex", "Tom"]}', "name", ["Rex", "Tom"]),
        ("a.csv", "id,en_text\n1,Rex: A dog.\n", "description", ["A dog."]),
        ("a.csv", "id,en_text\n1,Rex: A dog.\n", "name", ["Rex"]),
        ("a.csv", "id,name\n1,nan\n2,Nan\n3,\n", "name", ["Nan"]),
        ("a.yaml", "- Rex\n2. Tom\n-5 dogs\n", "name", ["Rex", "Tom", "-5 dogs"]),
        ("a.list", "[MissingNo.]\n{5}\n", "name", ["[MissingNo.]", "{5}"]),
    ],
)
def test_the_column_or_the_list_is_found(
    tmp_path: Path, name: str, content: str, column: str, found: list[str]
) -> None:
    assert texts(tmp_path, content, name, column) == found


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"description": "A fox."}\n{\n', r"a\.jsonl, row 2 is not JSON"),
        ("a.jsonl", '{"description": "A fox."}\n[1]\n', r"a\.jsonl, row 2 is not a JSON object"),
        ("a.jsonl", '{"description": "A fox."}\n{}\n', r"a\.jsonl, row 2 has no 'description'"),
        ("a.csv", "id,text\n1,A fox.\n", r"a\.csv has no column 'description'; its columns are 'id', 'text'"),
        ("a.csv", "A red fox\n", r"a\.csv has a header and no rows"),
        ("a.txt", '[\n "Rex"\n]\n', r"Line 1 of .*a\.txt is JSON"),
        ("a.txt", '{"description": "A fox."}\n', r"Line 1 of .*a\.txt is JSON"),
        ("a.xlsx", b"PK\x03\x04\xff", r"Line 1 of .*a\.xlsx is not UTF-8\. Save .* \.csv"),
        *[
            ("a.csv", f"name\n{names}\n", r"a\.csv has nothing but numbers in its column of names")
            for names in ("0\n1", "LABEL_0\nLABEL_1", "True\nfalse", "#1\n#2")
        ],
        ("", b"", "cannot be read"),
    ],
)
def test_what_holds_no_texts_is_named(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    column = "name" if "names" in said else "description"
    with pytest.raises(InputError, match=said):
        texts(tmp_path, content, name, column) if name else list(read_texts(tmp_path, column)[1])


def test_a_plain_text_needs_no_library_for_tables(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Rex\n")
    asked = "import sys; from pathlib import Path; from toolkit.data.sources.formats import read_texts; "
    asked += f"list(read_texts(Path({str(tmp_path / 'a.txt')!r}), 'name')[1]); "
    asked += "print([name for name in ('pandas', 'pyarrow', 'datasets', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout == "[]\n"
