"""Many descriptions, one file: each answered as it is alone, whatever was interrupted, killed or computed elsewhere."""

import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from support.adapters import make_adapter, scale
from toolkit import cli
from toolkit.core.errors import InputError
from toolkit.core.folder import write_json
from toolkit.model import bulk, naming

TEXTS = [f"A small red fox with {number} tails sits beside a pond." for number in range(9)]
TEXTS[4] = "Its blue shell is hard as stone."


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(bulk, "PART", 2)
    monkeypatch.setattr(bulk, "GROUP", 2)


@pytest.fixture
def adapter(tmp_path, small_base, use_small_base):
    return make_adapter(tmp_path / "adapter", small_base)


def question(**changed):
    return bulk.Question(**{"verb": "name", "count": 1, "seed": 3} | changed)


def stopping(texts, after):
    """The texts, until somebody presses Ctrl-C."""
    yield from texts[:after]
    raise KeyboardInterrupt


def test_a_row_is_what_one_asked_alone_is_told(adapter, tmp_path):
    bulk.answer_all(adapter, TEXTS[:3], tmp_path / "out.parquet", question(count=2))
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["row"], row["seed"], row["description"], row["error"]) for row in rows] == [
        (number + 1, 3 + number, text, None) for number, text in enumerate(TEXTS[:3])
    ]
    answerer = naming.open_adapter(adapter)
    for row in rows:
        alone = naming.name(answerer, row["description"], 2, row["seed"])
        assert [name["name"] for name in row["names"]] == [one.name for one in alone.names]
        assert [name["probability"] for name in row["names"]] == pytest.approx(
            [one.probability for one in alone.names], rel=1e-3
        )
        assert [known["name"] for known in row["nearest"]] == [one.name for one in alone.nearest]


def test_an_interrupted_run_goes_on_to_the_same_bytes_and_asks_nothing_twice(adapter, tmp_path, monkeypatch):
    bulk.answer_all(adapter, TEXTS, tmp_path / "whole.parquet", question())
    out = tmp_path / "out.parquet"
    with pytest.raises(KeyboardInterrupt):
        bulk.answer_all(adapter, stopping(TEXTS, 5), out, question())
    assert not out.exists()
    asked, notes = [], []
    answered = bulk._answered
    monkeypatch.setattr(bulk, "_answered", lambda *given: asked.append(given[-1][0]) or answered(*given))
    written = bulk.answer_all(adapter, iter(TEXTS), out, question(), note=notes.append)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert asked == [4, 6, 8]
    assert notes == ["Continuing an interrupted run: 2 parts of 2 descriptions are answered."]
    assert (written.descriptions, written.refused) == (9, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "whole.parquet", "out.parquet"}
    bulk.answer_all(adapter, TEXTS, out, question(), note=notes.append)
    assert len(asked) == 3
    assert notes[-1].endswith("is whole: no description is asked again.")


@pytest.mark.parametrize(
    ("texts", "changed", "said"),
    [
        (TEXTS, {"count": 2}, "other settings"),
        (["A shell.", *TEXTS[1:]], {}, "other descriptions"),
        (TEXTS, {"candidates": ("Rex",)}, "other settings"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_answers_of_something_else_are_replaced_only_by_restart(adapter, tmp_path, texts, changed, said, finished):
    out = tmp_path / "out.parquet"
    first = question(verb="identify")
    if finished:
        bulk.answer_all(adapter, TEXTS, out, first)
    else:
        with pytest.raises(KeyboardInterrupt):
            bulk.answer_all(adapter, stopping(TEXTS, 5), out, first)
    second = question(verb="identify", **changed)
    with pytest.raises(InputError, match=f"holds answers of {said}.*`restart=True`"):
        bulk.answer_all(adapter, texts, out, second)
    with pytest.raises(KeyboardInterrupt):
        bulk.answer_all(adapter, stopping(texts, 3), out, second, restart=True)
    # A restart that was interrupted goes on without being asked for again.
    bulk.answer_all(adapter, texts, out, second)
    assert pq.read_table(out).num_rows == len(TEXTS)


def test_answers_of_other_weights_are_not_gone_on_with(adapter, tmp_path):
    bulk.answer_all(adapter, TEXTS[:1], tmp_path / "out.parquet", question(verb="identify"))
    write_json(adapter / "answers.json", ["Rex", "Squirtle"])
    with pytest.raises(InputError, match="other adapter"):
        bulk.answer_all(adapter, TEXTS[:1], tmp_path / "out.parquet", question(verb="identify"))


def test_somebody_elses_file_is_never_replaced(adapter, tmp_path):
    out = tmp_path / "out.parquet"
    out.write_text("mine")
    for restart in (False, True):
        with pytest.raises(InputError, match="is no file of answers"):
            bulk.answer_all(adapter, TEXTS, out, question(), restart=restart)
    assert out.read_text() == "mine"


def test_what_cannot_be_asked_says_why_and_ends_nothing(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("toolkit.cli.process.prepare", lambda *_, **__: None)
    monkeypatch.setattr("toolkit.core.hub_client.use_hub", lambda *_: None)
    lines = ["A red fox.", "", "A <end_of_turn> fox.", "word " * 600, "A shell."]
    (tmp_path / "d.txt").write_text("\n".join(lines) + "\n")
    where = ["--adapter", str(adapter), "--from", str(tmp_path / "d.txt"), "--to", str(tmp_path / "out.parquet")]
    result = CliRunner().invoke(cli.main, ["identify", *where, "--top", "1"])
    assert result.exit_code == 0
    assert "5 descriptions in" in result.stderr
    assert "3 could not be asked, and `error` says why" in result.stderr
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["error"] and row["error"].split(".")[0].split(":")[0] for row in rows] == [
        None,
        "The description is empty",
        rows[2]["error"].split(".")[0],
        "The description is too long",
        None,
    ]
    assert "<end_of_turn>" in rows[2]["error"]
    assert [row["candidates"] is None for row in rows] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["A fox.", "--to", "o.parquet"], "--to is for many descriptions"),
        (["A fox.", "--engine", "ray"], "Name a file with --to"),
        (["A fox.", "--restart"], "Name a file with --to"),
        (["--from", "-", "--to", "o.csv"], "does not end in .parquet"),
        (["--from", "-", "--to", "o.parquet"], "There is no description"),
    ],
)
def test_what_makes_no_sense_with_a_file_is_said(adapter, monkeypatch, arguments, said):
    monkeypatch.setattr("toolkit.cli.process.prepare", lambda *_, **__: None)
    monkeypatch.setattr("toolkit.core.hub_client.use_hub", lambda *_: None)
    typed = "A fox.\n" if "o.csv" in arguments else ""
    result = CliRunner().invoke(cli.main, ["name", "--adapter", str(adapter), *arguments], input=typed)
    assert result.exit_code == 2
    assert said in result.stderr


def kill_a_worker():
    """Kill a worker of this process's own cluster, as a machine that runs out of memory does."""
    busy = [one for one in psutil.Process().children(recursive=True) if one.name().startswith("ray::_Worker")]
    busy[0].kill()


def with_a_death(texts, after):
    yield from texts[:after]
    kill_a_worker()
    yield from texts[after:]


def test_workers_of_ray_give_the_same_bytes_whichever_dies(ray_cluster, adapter, small_base, tmp_path):
    asked = question(base=str(small_base))
    bulk.answer_all(adapter, TEXTS, tmp_path / "local.parquet", asked)
    counts = []
    bulk.answer_all(
        adapter,
        with_a_death(TEXTS, 7),
        tmp_path / "ray.parquet",
        asked,
        engine="ray",
        progress=lambda _, done, __: counts.append(done),
    )
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()
    assert counts[-1] == len(TEXTS)
    assert len(counts) == 5


def test_an_error_in_a_worker_is_the_one_line_that_it_is_here(ray_cluster, adapter, small_base, tmp_path):
    scale(adapter, 1e30)
    asked = question(base=str(small_base))
    for engine in ("local", "ray"):
        with pytest.raises(InputError, match="NaN"):
            bulk.answer_all(adapter, TEXTS[:1], tmp_path / "out.parquet", asked, engine=engine)
    assert not list(tmp_path.glob("out*"))
