"""Errors and notes of library code name Python arguments and settings; the command line shows its options instead."""

import click
import pytest
from click.testing import CliRunner

from toolkit import cli
from toolkit.cli import options
from toolkit.cli.options import with_options
from toolkit.core.errors import InputError
from toolkit.core.recipe import SourceSettings, load_recipe


def context(command):
    main = click.Context(cli.main, **cli.main.context_settings)
    return click.Context(cli.main.get_command(main, command), parent=main)


@pytest.mark.parametrize(
    ("command", "text", "shown"),
    [
        ("train", "Raise `training.max_length`.", "Raise --max-length."),
        ("train", "Give `lora.r` and `max_steps`.", "Give --lora-r and --max-steps."),
        ("train", 'Set `training.quantization="none"`.', "Set --quantization none."),
        ("train", "Set `training.micro_batch_size = 4`.", "Set --micro-batch-size 4."),
        ("train", "Give `restart=True`.", "Give --restart."),
        ("train", "`lora.use_dora=False`, `lora.use_rslora`", "--no-use-dora, --use-rslora"),
        ("validate", "Raise `max_length`.", "Raise --max-length."),
        ("publish", "Give `overwrite_card`.", "Give --overwrite-card."),
        ("publish", "`private=False` shows it.", "--public shows it."),
        ("publish", "Raise `training.max_length`.", "Raise `training.max_length`."),
        ("train", "Set `evaluation.quantization`.", "Set `evaluation.quantization`."),
        ("train", "Run `pkt evaluate` on `messages`.", "Run `pkt evaluate` on `messages`."),
    ],
)
def test_a_name_in_backticks_is_the_option_of_the_running_command(command, text, shown):
    assert with_options(text, context(command)) == shown


def test_an_error_names_the_options_of_the_command_that_ran(monkeypatch):
    def fail(*_):
        raise InputError("No `endpoint`.", "Give `dataset_revision`.")

    monkeypatch.setattr("toolkit.core.hub_client.use_hub", fail)
    assert CliRunner().invoke(cli.main, ["doctor"]).output == "Error: No --endpoint. Give `dataset_revision`.\n"
    assert "Give --dataset-revision" in CliRunner().invoke(cli.main, ["evaluate", "a", "d"]).output


def test_a_note_names_them_too(capsys):
    from toolkit.cli import output

    with context("train"):
        output.Output().say("`training.quantization` is none.")
    assert capsys.readouterr().err == "--quantization is none.\n"


@pytest.fixture
def loaded(monkeypatch):
    """The recipes that `pkt build-dataset` and `pkt train` load, which then go no further."""
    recipes = []
    monkeypatch.setattr("toolkit.core.hub_client.use_hub", lambda *_: None)
    monkeypatch.setattr("toolkit.cli.process.prepare", lambda *_, **__: None)
    load = options.load

    def stop(*arguments):
        recipes.append(load(*arguments))
        raise InputError("Stop.", "Here.")

    monkeypatch.setattr(options, "load", stop)
    return recipes


def test_options_change_the_recipe_and_those_not_given_do_not(loaded):
    given = ["--lora-r", "3", "--epochs", "2", "--micro-batch-size", "auto", "--track", "trackio", "--keep", "best"]
    CliRunner().invoke(cli.main, ["train", "data", "out", *given])
    (recipe,) = loaded
    assert recipe.lora.r == 3
    assert (recipe.training.epochs, recipe.training.max_steps, recipe.training.keep) == (2, None, "best")
    assert (recipe.training.track, recipe.training.batch_size) == (["trackio"], load_recipe("demo").training.batch_size)


def test_a_source_on_the_command_line_replaces_that_of_the_recipe(loaded):
    CliRunner().invoke(cli.main, ["build-dataset", "out", "--source", "table", "--from", "a.csv", "--name-column", "x"])
    assert loaded[0].dataset.sources == [SourceSettings(name="table", location="a.csv", name_column="x")]


def test_options_of_a_source_alone_change_the_source_of_the_recipe(loaded, tmp_path):
    (tmp_path / "mine.toml").write_text(RECIPE + HUB)
    CliRunner().invoke(cli.main, ["build-dataset", "out", "--recipe", f"{tmp_path}/mine.toml", "--revision", "v1"])
    assert loaded[0].dataset.sources == [SourceSettings(name="hub", location="owner/name", revision="v1")]


def test_several_sources_are_for_a_recipe(tmp_path):
    (tmp_path / "mine.toml").write_text(RECIPE + HUB + HUB)
    for arguments, said in (
        (
            ["--source", "corpus", "--source", "pokeapi"],
            "several sources go into a recipe, each under [[dataset.sources]]",
        ),
        (["--recipe", f"{tmp_path}/mine.toml", "--revision", "v1"], "The recipe has several sources"),
    ):
        result = CliRunner().invoke(cli.main, ["build-dataset", str(tmp_path / "out"), *arguments], terminal_width=200)
        assert result.exit_code == 2
        assert said in " ".join(result.output.split())


RECIPE = 'name = "mine"\nbase = "a/b"\n[training]\nmax_steps = 1\n'
HUB = '[[dataset.sources]]\nname = "hub"\nlocation = "owner/name"\n'


def test_a_run_takes_any_setting_of_its_recipe_as_a_value_of_toml_or_else_a_text(monkeypatch, tmp_path):
    from toolkit import run as pipeline

    def started(recipe, *_, **__):
        raise InputError(f"{recipe.training.max_steps} {recipe.publish.local_hub} {recipe.publish.adapter_repo}.", "")

    monkeypatch.setattr(pipeline, "run_pipeline", started)
    given = ("training.max_steps=3", "publish.local_hub = false", "publish.adapter_repo=you/namer")
    result = CliRunner().invoke(cli.main, ["run", "demo", str(tmp_path), *(f"--set={pair}" for pair in given)])
    assert result.stderr.strip() == "Error: 3 False you/namer."


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (["training.learning_rate=1e-4,3e-4"], [1e-4, 3e-4]),
        (["training.micro_batch_size=2,auto"], [2, "auto"]),
        (["lora.use_dora=true,false"], [True, False]),
        (["training.scheduler=linear,cosine"], ["linear", "cosine"]),
        # In a text or a list, a comma is a part of one value.
        (["dataset.description_language=en,ko"], ["en,ko"]),
        (["base=a/b", "base=c/d"], ["a/b", "c/d"]),
        (['lora.target_modules=["q_proj", "v_proj"]'], [["q_proj", "v_proj"]]),
        (['evaluation.selected_on=["validation"]', "evaluation.selected_on=[]"], [["validation"], []]),
    ],
)
def test_commas_separate_the_values_of_numbers_switches_and_choices_alone(monkeypatch, tmp_path, given, values):
    from toolkit import sweep

    def planned(recipes, settings):
        raise InputError(repr(settings), "")

    monkeypatch.setattr(sweep, "plan_trials", planned)
    result = CliRunner().invoke(cli.main, ["run", "demo", str(tmp_path), *(f"--set={pair}" for pair in given)])
    assert result.stderr.strip() == f"Error: { ({given[0].partition('=')[0]: values})!r}"


@pytest.mark.parametrize(
    ("pair", "said"),
    [("epochs", "'epochs' is no KEY=VALUE"), ("training.epoch=2", "did you mean training.epochs")],
)
def test_a_setting_that_cannot_be_set_is_one_clear_line(tmp_path, pair, said):
    result = CliRunner().invoke(cli.main, ["run", "demo", str(tmp_path / "out"), "--set", pair])
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()
