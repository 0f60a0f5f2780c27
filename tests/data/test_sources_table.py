"""Tables in files: what is read from each format and encoding, and the error for a file that cannot be read."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.sources import read, write_rows
from toolkit.core.errors import InputError
from toolkit.data.sources import formats, text_files
from toolkit.data.sources.records import split_caption

ROWS = [{"name": "Rex", "description": "A brown dog."}, {"name": "나비", "description": "회색 고양이."}]


def csv_text() -> str:
    return "".join(",".join(row) + "\n" for row in (("name", "description"), *(row.values() for row in ROWS)))


def written(folder: Path, kind: str) -> Path:
    return write_rows(folder / f"pets{kind}", ROWS)


def save(folder: Path, text: str | bytes, name: str = "t.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def pairs(location: str, **settings: Any) -> list[tuple[str, str]]:
    records, _ = read("table", location=location, description_language="en,ko", **settings)
    return [(next(iter(record.names.values()), ""), record.description) for record in records]


EXPECTED = [("Rex", "A brown dog."), ("나비", "회색 고양이.")]

KINDS = [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz", ".json.gz"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    records, facts = read("table", location=str(written(tmp_path, kind)), description_language="en,ko")
    assert [(record.key, dict(record.names), record.description, record.language) for record in records] == [
        ("table/rex", {"en": "Rex"}, "A brown dog.", "en"),
        ("table/나비", {"ko": "나비"}, "회색 고양이.", "ko"),
    ]
    assert facts.location == f"pets{kind}"
    assert not facts.notes


# --- which files


def test_a_pattern_reads_all_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save(tmp_path, f"name,description\n{name.upper()}{name},text of {name}\n", f"{name}.csv")
    records, facts = read("table", location=str(tmp_path / "*.csv"))
    assert [record.source_ref for record in records] == ["a.csv:2", "b.csv:2"]
    assert facts.location == "*.csv"


def test_a_pattern_reaches_into_folders_and_keeps_files_of_one_name_apart(tmp_path: Path) -> None:
    hashes = set()
    for text in ("one", "two"):
        for folder in ("x", "y/z"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            save(tmp_path / folder, f"name,description\nA,{text if folder == 'x' else 'same'}\n")
        (tmp_path / "folder.csv").mkdir(exist_ok=True)
        records, facts = read("table", location=str(tmp_path / "**" / "*.csv"))
        assert [record.source_ref for record in records] == ["x/t.csv:2", "y/z/t.csv:2"]
        assert facts.location == "**/*.csv"
        hashes.add(facts.content_hash)
    assert len(hashes) == 2


def test_a_name_with_wildcards_in_it_is_a_file_when_there_is_one(tmp_path: Path) -> None:
    assert pairs(save(tmp_path, csv_text(), "pets[1].csv")) == EXPECTED


@pytest.mark.parametrize("location", [None, "nowhere.csv", ".", "/", "no/**x/*.csv"])
def test_a_table_without_a_file_is_an_error(location: str | None) -> None:
    with pytest.raises(InputError, match="`location`"):
        read("table", location=location)


# --- encodings


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("cp949", "cp949"),
        ("euc-kr", "cp949"),
    ],
)
@pytest.mark.parametrize("kind", [".csv", ".csv.gz", ".jsonl", ".json"])
def test_the_encoding_is_detected_and_said(tmp_path: Path, encoding: str, note: str | None, kind: str) -> None:
    path = written(tmp_path, kind)
    text = (gzip.decompress(path.read_bytes()) if kind.endswith(".gz") else path.read_bytes()).decode()
    path.write_bytes(gzip.compress(text.encode(encoding), mtime=0) if kind.endswith(".gz") else text.encode(encoding))
    records, facts = read("table", location=str(path), description_language="en,ko")
    assert [record.description for record in records] == ["A brown dog.", "회색 고양이."]
    assert facts.notes == ([] if note is None else [f"pets{kind}: read as {note}"])


@pytest.mark.parametrize(
    "text",
    [
        "A Pokémon with a curly tail.",
        "It’s the cat’s ’t.",
        "Größe: süße Füße",
        "“Quoted” – with dashes — and more…",
    ],
)
def test_western_text_is_not_taken_for_korean(tmp_path: Path, text: str) -> None:
    location = save(tmp_path, f'name,description\nRex,"{text}"\n'.encode("cp1252"))
    records, facts = read("table", location=location)
    assert records[0].description == text
    assert facts.notes == ["t.csv: read as cp1252"]


def test_korean_with_a_rare_syllable_and_a_long_ascii_start_is_read_as_korean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "SAMPLE", 1000)
    text = "name,description\n" + "Rex,A brown dog.\n" * 1000 + "펲시맨,똠방각하가 뷁을 외쳤다.\n"
    assert pairs(save(tmp_path, text.encode("cp949")))[-1] == ("펲시맨", "똠방각하가 뷁을 외쳤다.")


def test_an_asked_encoding_wins_over_what_would_be_detected(tmp_path: Path) -> None:
    location = save(tmp_path, "name,description\nRex,Pokémon\n".encode("mac_roman"))
    assert pairs(location, encoding="mac_roman") == [("Rex", "Pokémon")]
    assert pairs(location, encoding="latin-1") == [("Rex", "Pok\x8emon")]


@pytest.mark.parametrize("name", ["klingon", "base64"])
def test_an_encoding_that_nobody_knows_is_said_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^The encoding '.*' is not known"):
        pairs(save(tmp_path, csv_text()), encoding=name)


DAMAGED = "name,description\na,고양이\n".encode() + b"b,caf\xe9\n"


@pytest.mark.parametrize(
    ("body", "encoding", "message"),
    [
        (DAMAGED, None, "row 3 is not UTF-8: byte 0xe9 at 34"),
        (DAMAGED, "utf-8", "row 3 is not UTF-8: byte 0xe9 at 34"),
        (DAMAGED, "ascii", "row 2 is not ASCII: byte 0xea at 19"),
        (b"name,description\na,\x81\xff\x8d\n", None, "row 2 is not UTF-8: byte 0x81 at 19"),
        (b"PK\x03\x04\xff\xfe", None, "is an Excel, compressed or Parquet file, whatever its name says"),
    ],
)
def test_a_file_in_no_encoding_is_named_with_its_row_and_byte(
    tmp_path: Path, body: bytes, encoding: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        pairs(save(tmp_path, body), encoding=encoding)
    assert "t.csv" in caught.value.found


def test_a_byte_that_the_sample_did_not_hold_is_found_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "SAMPLE", 1001)
    body = ("이름,설명\n" * 3000).encode("cp949") + b"\xff\xff\n"
    with pytest.raises(InputError, match=rf"row 3001 is not CP949: byte 0xff at {len(body) - 3}"):
        pairs(save(tmp_path, body), name_column="이름", description_column="설명")


# --- columns and cells


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_text_stays_the_text_that_it_is(tmp_path: Path, kind: str) -> None:
    texts = ["NA", "None", "null", "nan", "007", "1e3", "TRUE", "2024-01-02", " spaces "]
    rows = [{"name": f"n{number}", "description": text} for number, text in enumerate(texts)]
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    elif kind == ".jsonl":
        save(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "t.jsonl")
    else:
        mark = "\t" if kind == ".tsv" else ","
        save(
            tmp_path, "\n".join(mark.join(row) for row in [list(rows[0]), *(row.values() for row in rows)]), f"t{kind}"
        )
    assert [text for _, text in pairs(str(tmp_path / f"t{kind}"))] == texts


def test_optional_columns_are_used_when_they_are_there(tmp_path: Path) -> None:
    location = save(
        tmp_path, "key,who,family,language,name_ko,license,what\npets/1,Rex,dogs,en-US,렉스,MIT,A brown dog.\n"
    )
    (record,), _ = read("table", location=location, description_column="what", name_column="who")
    assert (record.key, record.family, record.license, record.language) == ("pets/1", "dogs", "MIT", "en")
    assert record.names == {"en": "Rex", "ko": "렉스"}


def test_captions_are_read_only_where_name_and_description_are_missing(tmp_path: Path) -> None:
    assert pairs(save(tmp_path, "name,en_text,description\nRex,Tom: A cat.,A dog.\n")) == [("Rex", "A dog.")]
    assert pairs(save(tmp_path, "name,en_text\nRex,Tom: A cat.\n")) == [("Tom", "A cat.")]


def test_a_language_is_known_by_its_name_too(tmp_path: Path) -> None:
    languages = ("English", "en_GB", "한국어", "국문", "fr")
    rows = "".join(f"Rex,A dog.,{language}\n" for language in languages)
    records, _ = read("table", location=save(tmp_path, f"name,description,language\n{rows}"))
    assert [record.language for record in records] == ["en", "en", "ko", "ko", "fr"]


def test_the_family_column_replaces_the_usual_one(tmp_path: Path) -> None:
    location = save(tmp_path, "name,description,family,kind\nRex,A dog.,wrong,dogs\nTom,A cat.,wrong,\n")
    records, _ = read("table", location=location, family_column="kind")
    assert [record.family for record in records] == ["dogs", "table/tom"]
    with pytest.raises(InputError, match=r"no column 'clan' \(`family_column`\)"):
        read("table", location=location, family_column="clan")


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_the_language_of_names_is_what_is_said_or_else_by_their_letters(tmp_path: Path, kind: str) -> None:
    location = str(written(tmp_path, kind))
    assert [dict(record.names) for record in read("table", location=location)[0]] == [{"en": "Rex"}, {"ko": "나비"}]
    records, _ = read("table", location=location, name_language="ko")
    assert [dict(record.names) for record in records] == [{"ko": "Rex"}, {"ko": "나비"}]


def test_a_name_in_its_own_language_column_is_enough(tmp_path: Path) -> None:
    location = save(tmp_path, "name,name_ko,description\n,렉스,A dog.\n,톰,A cat.\n,,Nobody.\n")
    records, _ = read("table", location=location)
    assert [(record.key, dict(record.names)) for record in records] == [
        ("table/렉스", {"ko": "렉스"}),
        ("table/톰", {"ko": "톰"}),
        ("table/", {}),
    ]


def test_names_that_differ_only_in_their_signs_keep_keys_of_their_own(tmp_path: Path) -> None:
    location = save(tmp_path, "name,description\nNido♀,one\nNido♂,two\n!!!,three\n???,four\n,five\n")
    keys = [record.key for record in read("table", location=location)[0]]
    assert keys[:2] == ["table/nido-f", "table/nido-m"]
    assert len(set(keys)) == 5


def test_a_list_of_descriptions_is_one_record_for_each(tmp_path: Path) -> None:
    table = pa.table({"name": ["Rex", "Tom"], "description": [["A dog.", "It barks."], []]})
    pq.write_table(table, tmp_path / "t.parquet")
    records, _ = read("table", location=str(tmp_path / "t.parquet"))
    assert [(record.key, record.description, record.source_ref) for record in records] == [
        ("table/rex", "A dog.", "t.parquet:1[1]"),
        ("table/rex", "It barks.", "t.parquet:1[2]"),
        ("table/tom", "", "t.parquet:2[1]"),
    ]


@pytest.mark.parametrize("value", ['{"a": 1}', '[{"role": "user"}]'])
def test_a_description_that_is_an_object_is_an_error_with_its_row(tmp_path: Path, value: str) -> None:
    location = save(tmp_path, f'{{"name": "a", "description": {value}}}\n', "t.jsonl")
    with pytest.raises(InputError, match=r"t\.jsonl, row 1 has an object in 'description'"):
        pairs(location)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("null", ""),
        ("NaN", ""),
        ("5", "5"),
        ("true", "True"),
        (r'"\ud800"', "\ufffd\ufffd\ufffd"),
    ],
)
def test_cells_that_are_no_texts_are_read_as_what_they_say(tmp_path: Path, value: str, text: str) -> None:
    assert pairs(save(tmp_path, f'{{"name": "a", "description": {value}}}\n', "t.jsonl")) == [("a", text)]


@pytest.mark.parametrize("kind", ["large_string", "string_view", "binary", "large_binary", "dictionary"])
def test_every_way_in_which_parquet_holds_text_is_read(tmp_path: Path, kind: str) -> None:
    names = pa.array(["Rex", "나비", None])
    if kind == "dictionary":
        names = names.dictionary_encode()
    else:
        names = names.cast({"string_view": pa.string_view()}.get(kind, getattr(pa, kind)()))
    pq.write_table(pa.table({"name": names, "description": ["a", "b", "c"]}), tmp_path / "t.parquet")
    assert pairs(str(tmp_path / "t.parquet")) == [("Rex", "a"), ("나비", "b"), ("", "c")]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_csv_file_with_another_delimiter_is_read_and_said_so(tmp_path: Path, mark: str) -> None:
    location = save(tmp_path, f"\ufeffname{mark}description\nRex{mark}A dog, brown.\n")
    records, facts = read("table", location=location)
    assert records[0].description == "A dog, brown."
    assert facts.notes == [f"t.csv: columns are separated by {mark!r}"]


def test_a_numbering_without_a_name_and_spaces_around_names_are_no_hindrance(tmp_path: Path) -> None:
    assert pairs(save(tmp_path, ", name , description ,\n0,Rex,A dog.,\n")) == [("Rex", "A dog.")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_numbered_by_the_line_where_they_begin(tmp_path: Path, end: str) -> None:
    text = 'name,description\n\na,"one\ntwo"\nb,three\n'.replace("\n", end)
    records, _ = read("table", location=save(tmp_path, text))
    assert [record.source_ref for record in records] == ["t.csv:3", "t.csv:5"]


def test_a_key_that_only_later_objects_have_is_read(tmp_path: Path) -> None:
    rows = '{"name": "a", "description": "b"}\n{"name": "c", "description": "d", "name_ko": "다", "family": "f"}\n'
    records, _ = read("table", location=save(tmp_path, rows, "t.jsonl"))
    assert dict(records[1].names) == {"en": "c", "ko": "다"}
    assert records[1].family == "f"


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"name,description\n", "has a header and no rows"),
        ("t.csv", b"who,what\na,b\n", r"no column 'description' \(`description_column`\) and no column 'name'"),
        ("t.csv", b"name,description\na\n", "row 2 has 1 fields"),
        ("t.csv", b"name,description,name\na,b,c\n", "'name' twice"),
        ("t.csv", b'name,description\na,ok\nb,"open\nc,d\n', "row 3 cannot be read: unexpected end of data"),
        ("t.csv", b'name,description\na,"b"c\n', "row 2 cannot be read: .* expected after"),
        ("t.csv.gz", b"no gzip", "cannot be read: Not a gzipped file"),
        (
            "t.csv.gz",
            gzip.compress(b"name,description\na,b\n" * 50, mtime=0)[:-12],
            "cannot be read: Compressed file ended",
        ),
        ("t.jsonl", b'{"name": "a", "description": "b"}\n{"name": \n', "row 2 is not JSON"),
        ("t.jsonl", b'{"name": "a", "description": "b"}\n[]\n', "row 2 is not a JSON object"),
        ("t.jsonl", b'{"name": "a", "description": "b"}\n{"name": "c"}\n', "row 2 has no 'description'"),
        ("t.json", b'[{"name": "a", "description": "b"}, 3]', "row 2 is not a JSON object"),
        ("t.json", b'[{"name": "a"', "row 1 is not JSON"),
        ("t.json", b'{\n"rows": []}', "is empty"),
        ("t.json", b'{"a": [{"name": "x"}], "b": {"c": [{"name": "y"}]}}', "holds several tables: 'a', 'b.c'"),
        ("t.json", b'{"name": ["x"], "description": []}', "columns of different lengths"),
        ("t.json", b'{"a":' * 5000, "row 1 is not JSON"),
        ("t.json", b'{"1": {"name": "", "description": []}, "2": {}, "3": {"name": ""}}', "row 2 has no 'description'"),
        ("t.json", b'[{"name": "a",\n"description": 1e}]', "row 2 is not JSON"),
        ("t.parquet", b"PAR1 cut", "not a readable Parquet"),
        ("t.xlsx", b"x", "not a table that pkt reads"),
    ],
)
def test_a_bad_table_is_one_error_with_its_file_and_row(tmp_path: Path, name: str, body: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        pairs(save(tmp_path, body, name))
    assert name in caught.value.found
    assert "\n" not in str(caught.value)


# --- quotes

RAW = (
    'Rex\t"I never sleep, it seems to say.\nTom\tA slow cat with moss on its back.\n'
    'Max\tA white bird that calls for its kin."\nLeo\tA grey lion.\n'
)


@pytest.mark.parametrize(
    ("name", "rows", "found", "notes"),
    [
        ("t.tsv", RAW, 4, [formats.LETTERS]),
        ("t.tsv", 'Rex\t"Rex" is what it cries.\nTom\tA cat.\n', 2, [formats.LETTERS]),
        ("t.tsv", 'Rex\t6" tall.\nTom\tA cat.\n', 2, []),
        ("t.tsv", 'Rex\t"It says ""hi""."\nTom\t"Two\nlines"\n', 2, []),
        ("t.csv", RAW, 4, ["columns are separated by '\\t'", formats.LETTERS]),
        ("t.csv", 'Rex,"It says \\"hi\\", twice"\n', 1, [formats.ESCAPED]),
        ("t.csv", 'Rex,"Two lines,\nso it goes on"\n', 1, []),
        ("t.csv", RAW.replace("\t", ","), 2, ["rows 2 to 4 are one by quotes that may be one too many"]),
    ],
)
def test_quotes_are_read_so_that_no_row_is_lost_in_silence(
    tmp_path: Path, name: str, rows: str, found: int, notes: list[str]
) -> None:
    header = f"name{',' if ',' in rows.split(chr(10))[0][:4] else chr(9)}description\n"
    rows = rows.replace("sleep,", "sleep")
    records, facts = read("table", location=save(tmp_path, header + rows, name))
    assert len(records) == found
    assert facts.notes == [f"{name}: {note}" for note in notes]


def test_a_last_line_of_blanks_is_no_row(tmp_path: Path) -> None:
    assert pairs(save(tmp_path, "name;description\r\nRex;A dog.\r\n \r\n")) == [("Rex", "A dog.")]


# --- JSON as programs write it


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"data": ROWS, "count": 2, "fields": [{"name": "x"}]}),
        json.dumps({"meta": {"version": 1}, "result": {"items": ROWS}}, indent=1),
        json.dumps({str(number): {"x": None, **row} for number, row in enumerate(ROWS)}),
        json.dumps({name: {str(number): row[name] for number, row in enumerate(ROWS)} for name in ROWS[0]}),
        json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}, indent=1),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "\ufeff" + "\r\n".join(json.dumps(row | {"n": float("nan"), "big": 10**40}) for row in ROWS),
    ],
)
@pytest.mark.parametrize("kind", [".json", ".jsonl"])
def test_rows_are_found_in_every_shape_of_json(tmp_path: Path, text: str, kind: str) -> None:
    assert pairs(save(tmp_path, text, f"t{kind}")) == EXPECTED


def test_one_object_is_one_row_even_with_lists_in_it(tmp_path: Path) -> None:
    row = {"name": "Rex", "description": ["A dog.", "It barks."], "moves": [{"name": "bark"}]}
    assert pairs(save(tmp_path, json.dumps(row, indent=1), "t.json")) == [("Rex", "A dog."), ("Rex", "It barks.")]


# --- labels, marks and columns that nobody named


def label_table(path: Path, labels: list[int | None], **kind: Any) -> str:
    kind = {"names": ["Rex", "Tom"], "_type": "ClassLabel"} | kind
    table = pa.table({"name": labels, "description": ["A dog."] * len(labels)})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": {"name": kind}}})}), path
    )
    return str(path)


def test_numbers_of_labels_are_read_as_their_names(tmp_path: Path) -> None:
    found = pairs(label_table(tmp_path / "t.parquet", [1, 0, -1, None]))
    assert [name for name, _ in found] == ["Tom", "Rex", "", ""]
    with pytest.raises(InputError, match=r"t\.parquet, row 2 has 7 in 'name', whose 2 labels are numbered from 0"):
        pairs(label_table(tmp_path / "t.parquet", [1, 7]))


def test_names_that_are_nothing_but_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.parquet has nothing but numbers in its column of names"):
        pairs(label_table(tmp_path / "t.parquet", [1, 0], _type="Value"))
    assert pairs(save(tmp_path, "name,description\n7,A dog.\nRex,A dog.\n"))[0] == ("7", "A dog.")


def test_columns_of_any_source_that_are_used_by_name_alone_are_said(tmp_path: Path) -> None:
    rows = '{"name": "a", "description": "b", "key": ""}\n{"name": "c", "description": "d", "family": "f", "age": 3}\n'
    _, facts = read("table", location=save(tmp_path, rows, "t.jsonl"))
    assert facts.notes == ["t.jsonl: used by their names alone: 'family'"]
    _, facts = read("table", location=save(tmp_path, rows, "t.jsonl"), family_column="key")
    assert facts.notes == []


def test_a_stray_quote_among_quoted_cells_makes_no_letters_of_the_others(tmp_path: Path) -> None:
    rows = "".join(f'"{name}"\t"A beast."\n' for name in ("Rex", "Tom", "Max"))
    with pytest.raises(InputError, match=r"row 3 cannot be read: .* double quote too many or too few"):
        read("table", location=save(tmp_path, f'name\tdescription\n"Ann"\t"A fox."\nBob\t"A cat.\n{rows}', "t.tsv"))


def test_marks_of_an_empty_cell_are_no_names_and_are_said(tmp_path: Path) -> None:
    rows = [("nan", "none"), ("Null", "x"), ("?", "#SPILL!"), ("Type: Null", "nan"), ("nan", "")]
    text = "name,family,description\n" + "".join(f"{name},{family},nan\n" for name, family in rows)
    records, facts = read("table", location=save(tmp_path, text))
    assert [next(iter(record.names.values()), "") for record in records] == ["", "Null", "", "Type: Null", ""]
    assert [record.family for record in records] == ["none", "x", "table/", "table/type-null", "table/"]
    assert {record.description for record in records} == {"nan"}
    assert "t.csv: 'nan' in 'name' counts as an empty cell, 2 times" in facts.notes


@pytest.mark.parametrize(
    ("header", "settings"),
    [
        (" Name ,Description,x,x", {}),
        ("이름,설명,x,x", {"name_column": "이름", "description_column": "설명"}),
        (unicodedata.normalize("NFD", "이름,설명,x,x"), {"name_column": "이름", "description_column": "설명"}),
    ],
)
@pytest.mark.parametrize("kind", [".csv", ".json"])
def test_a_column_is_found_in_other_capitals_and_in_decomposed_letters(
    tmp_path: Path, header: str, settings: dict[str, str], kind: str
) -> None:
    text = f"{header}\nRex,A dog.,1,2\n"
    if kind == ".json":
        text = json.dumps([dict(zip(header.split(","), ("Rex", "A dog."), strict=False))])
    assert pairs(save(tmp_path, text, f"t{kind}"), **settings) == [("Rex", "A dog.")]


@pytest.mark.parametrize("asked", ["데이터.csv", "데*.csv"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_with_a_decomposed_name_is_found(tmp_path: Path, asked: str, form: Literal["NFC", "NFD"]) -> None:
    save(tmp_path, csv_text(), unicodedata.normalize(form, "데이터.csv"))
    for typed in ("NFC", "NFD"):
        assert pairs(str(tmp_path / unicodedata.normalize(typed, asked))) == EXPECTED


# --- `Name: description` in one column


@pytest.mark.parametrize(
    ("caption", "name", "description"),
    [
        ("Ho-Oh: Type: Fire.", "Ho-Oh", "Type: Fire."),
        ("Farfetch’d: A duck.", "Farfetch’d", "A duck."),
        ("피카츄：노란 쥐.", "피카츄", "노란 쥐."),
        ("**Pikachu:** Yellow.", "Pikachu", "Yellow."),
        ("- **Pikachu**: Yellow.", "Pikachu", "Yellow."),
        ("## Pikachu:\nYellow.", "Pikachu", "Yellow."),
        ('"Pikachu": Yellow.', "Pikachu", "Yellow."),
        ('"Pikachu: Yellow."', "Pikachu", "Yellow."),
        ('"Pikachu": "Yellow."', "Pikachu", '"Yellow."'),
        ("Pikachu:", "Pikachu", ""),
        ("no name here", "", "no name here"),
        ("This creature has one trait: it burns.", "", "This creature has one trait: it burns."),
        ("A Big Red Fire Dog: it burns.", "", "A Big Red Fire Dog: it burns."),
        ("See https://example.org", "", "See https://example.org"),
        (": nameless", "", ": nameless"),
    ],
)
def test_a_caption_is_split_into_name_and_description(caption: str, name: str, description: str) -> None:
    assert split_caption(caption) == (name, description)
