"""`pkt name` and `pkt identify`: one description or many, from arguments, files and pipes, for people and machines."""

import json

import pytest
from click.testing import CliRunner

from support.adapters import make_adapter
from support.sources import write_rows
from toolkit import cli
from toolkit.model import adapter as adapters
from toolkit.model import naming


@pytest.fixture
def ask(tmp_path, small_base, use_small_base, monkeypatch):
    """Runs a command on an adapter of the small base."""
    adapter = make_adapter(tmp_path / "adapter", small_base)
    # It chooses for a whole process, which here runs other tests too.
    monkeypatch.setattr("toolkit.cli.process.prepare", lambda *_, **__: None)
    monkeypatch.setattr("toolkit.core.hub_client.use_hub", lambda *_: None)

    def run(verb, *arguments, typed=None):
        return CliRunner().invoke(cli.main, [verb, *arguments, "--adapter", str(adapter)], input=typed)

    return run


def test_a_name_comes_with_its_probability_and_the_nearest_creatures(ask):
    printed = ask("name", "A red fox.", "--count", "1", "--seed", "3", "--known").stdout.splitlines()
    assert printed[1] == "Nearest known creatures:"
    assert all(line[:6].strip().endswith("%") and line[6:8] == "  " for line in (printed[0], *printed[2:]))
    assert {line[8:] for line in printed[2:]} == {"Vulpix", "Squirtle"}


def test_one_description_gives_one_object(ask):
    named = json.loads(ask("name", "A red fox.", "--count", "2", "--known", "--json").stdout)
    assert named["names"]
    assert named.keys() == {"description", "names", "nearest"}
    assert all(name.keys() == {"name", "probability", "known", "nearest", "distance"} for name in named["names"])
    identified = json.loads(ask("identify", "꼬리가 여섯인 여우", "--top", "1", "--json").stdout)
    assert identified["description"] == "꼬리가 여섯인 여우"
    assert [candidate.keys() for candidate in identified["candidates"]] == [{"name", "probability"}]
    assert named["nearest"][0].keys() == {"name", "probability"}


@pytest.mark.parametrize("verb", ["name", "identify"])
@pytest.mark.parametrize("by_pipe", [True, False])
def test_several_give_one_line_each_in_order_from_one_loading(ask, tmp_path, monkeypatch, verb, by_pipe):
    loaded = []
    load = adapters.load_adapters
    monkeypatch.setattr(adapters, "load_adapters", lambda folder, **how: loaded.append(folder) or load(folder, **how))
    text = "A red fox.\n\n \u200b\n꼬리가 여섯인 여우\n"
    (tmp_path / "creatures.txt").write_text(text, encoding="utf-8")
    arguments, typed = ([], text) if by_pipe else (["--from", str(tmp_path / "creatures.txt")], None)
    lines = ask(verb, *arguments, "--json", typed=typed).stdout.splitlines()
    assert [json.loads(line)["description"] for line in lines] == ["A red fox.", "꼬리가 여섯인 여우"]
    assert len(loaded) == 1


def test_each_of_several_is_answered_as_it_is_alone(ask):
    alone = json.loads(ask("name", "A red fox.", "--json").stdout)
    among = ask("name", "--json", typed="A blue shell.\nA red fox.\n").stdout.splitlines()
    names = [[name["name"] for name in answer["names"]] for answer in (alone, json.loads(among[1]))]
    assert names[0] == names[1]


def test_people_see_which_description_is_answered(ask):
    printed = ask("identify", "--from", "-", "--top", "1", typed="A red fox.\nA blue shell.\n").stdout
    (first, one), (second, other) = (block.splitlines() for block in printed.strip().split("\n\n"))
    assert (first, second) == ("A red fox.", "A blue shell.")
    assert all("%  " in line for line in (one, other))


def test_what_was_answered_stays_when_a_later_line_is_wrong(ask):
    result = ask("identify", "--json", typed="A red fox.\nA <end_of_turn> fox.\n")
    assert json.loads(result.stdout)["description"] == "A red fox."
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: Line 2 of standard input: ")


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        ([], "\n \n", "There is no description"),
        ([" "], None, "There is no description"),
        (["A fox.", "--from", "-"], "A fox.", "not both"),
        (["--from", "missing.txt"], None, "missing.txt cannot be read"),
        (["A fox.", "--candidates", "missing.txt"], None, "missing.txt cannot be read"),
    ],
)
@pytest.mark.parametrize("verb", ["name", "identify"])
def test_what_cannot_be_asked_is_said_before_anything_is_loaded(ask, monkeypatch, verb, arguments, typed, said):
    monkeypatch.setattr(adapters, "load_adapters", lambda *_, **__: pytest.fail("the adapter was loaded"))
    result = ask(verb, *arguments, typed=typed)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_terminal_is_not_waited_for(ask, monkeypatch):
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    result = ask("name", typed="A fox.\n")
    assert result.exit_code == 2
    assert "There is no description. Give one in quotes" in result.stderr


def test_fewer_names_than_wanted_are_said_to_be_all(ask, monkeypatch):
    monkeypatch.setattr(naming, "_drawn", lambda *_: [["Vulpix"]])
    monkeypatch.setattr(naming, "_new", lambda *_: [["Vulpamon"]])
    result = ask("name", "A red fox.", "--count", "3", "--known")
    assert "Vulpix  (known)" in result.stdout
    assert "1 of 3 names" in result.stderr
    result = ask("name", "A red fox.", "--count", "3")
    assert "Vulpamon  (4 letters from Vulpix)" in result.stdout
    assert "1 of 3 names" in result.stderr


@pytest.mark.parametrize("name", ["d.json", "d.ndjson", "d.JSONL", "d.csv", "d.tsv", "d.parquet", "d.csv.gz"])
@pytest.mark.parametrize("option", ["--from", "--candidates"])
def test_descriptions_and_candidates_are_read_from_tables_as_a_dataset_is(ask, tmp_path, name, option):
    rows = [{"id": 1, "name": "Rex", "description": "A red fox."}, {"id": 2, "name": "나비", "description": "여우"}]
    write_rows(tmp_path / name, rows)
    printed = ask("identify", option, str(tmp_path / name), "--json", typed="A fox.\n").stdout
    answers = [json.loads(line) for line in printed.splitlines()]
    if option == "--from":
        assert [answer["description"] for answer in answers] == ["A red fox.", "여우"]
    else:
        assert {candidate["name"] for answer in answers for candidate in answer["candidates"]} == {"Rex", "나비"}


def test_the_list_of_another_adapters_answers_gives_candidates(ask, tmp_path):
    (tmp_path / "answers.json").write_text('[\n  "Rex",\n  "Rex",\n  " ",\n  "나비"\n]\n')
    answer = json.loads(ask("identify", "A fox.", "--candidates", str(tmp_path / "answers.json"), "--json").stdout)
    assert {candidate["name"] for candidate in answer["candidates"]} == {"Rex", "나비"}


def test_how_a_file_was_read_is_said(ask, tmp_path):
    (tmp_path / "n.csv").write_bytes("name;type\n나비;고양이\n해피;강아지\n".encode("cp949"))
    said = ask("identify", "A fox.", "--candidates", str(tmp_path / "n.csv")).stderr
    assert "read as cp949" in said
    assert "separated by ';'" in said
