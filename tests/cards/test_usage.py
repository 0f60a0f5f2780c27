"""What a card tells its reader to run can be run, and gives the settings of the adapter."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest

from support.cards import MANIFEST, SAMPLES, changed
from toolkit import cli
from toolkit.cards.usage import commands, model_citation, new_names_snippet, recipe_options, usage_snippet
from toolkit.core.recipe import load_recipe, recipe_names


def settings(name: str = "demo", **overrides: Any) -> dict[str, Any]:
    given = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_recipe(name, given).model_dump(mode="json")


def parsed(command: str) -> tuple[str, dict[str, Any]]:
    """A command and its parameters as Click reads them."""
    _, name, *arguments = shlex.split(command)
    # Click keeps the help option of the first context that a command meets.
    main = click.Context(cli.main, **cli.main.context_settings)
    context = cli.main.get_command(main, name).make_context(name, arguments, parent=main)
    return name, context.params


@pytest.mark.parametrize("name", recipe_names())
def test_an_unchanged_recipe_needs_no_options(name: str) -> None:
    assert recipe_options(settings(name)) == {"train": f" --recipe {name}", "evaluate": ""}


def test_changed_settings_become_options_that_give_the_same_recipe() -> None:
    recipe = settings(
        training__epochs=2.5,
        training__learning_rate=3e-5,
        training__batch_size=8,
        training__micro_batch_size="auto",
        training__keep="best",
        lora__r=4,
        lora__alpha=8.5,
        evaluation__max_test=50,
        base="some/base",
        seed=11,
    )
    manifest = changed(MANIFEST, recipe=recipe)
    train, evaluate, _ = commands(manifest, "demo/pokepicker").split("\n")[1:-1]
    verb, given = parsed(train)
    overrides = {
        key.replace("__", "."): value for key, value in given.items() if "__" in key or key in ("base", "seed")
    }
    assert verb == "train"
    assert load_recipe(given["recipe"], overrides).training == load_recipe(recipe).training
    assert load_recipe(given["recipe"], overrides).lora == load_recipe(recipe).lora
    assert (given["base"], given["seed"]) == ("some/base", 11)
    assert given["dataset_revision"] == MANIFEST["dataset"]["revision"]
    assert given["base_revision"] == MANIFEST["base"]["revision"]
    assert parsed(evaluate)[1]["evaluation__max_test"] == 50


@pytest.mark.parametrize("override", [{"training__weight_decay": 0.1}, {"lora__target_modules": ["q_proj"]}])
def test_settings_without_an_option_need_a_recipe_file(override: dict[str, Any]) -> None:
    recipe = settings(**override)
    assert recipe_options(recipe) is None
    assert "--recipe recipe.toml" in commands(changed(MANIFEST, recipe=recipe), None)


def test_what_changes_no_result_is_left_out() -> None:
    assert recipe_options(settings(training__track=["trackio"])) == recipe_options(settings())


def test_an_evaluation_is_made_again_beside_the_same_methods() -> None:
    text = commands(MANIFEST, None, ["base", "tfidf_centroid", "other/adapter", "/home/someone/adapter"])
    given = parsed(text.split("\n")[2])[1]
    assert given["baselines"] == "base,tfidf_centroid"
    assert given["against"] == ("other/adapter",)
    assert "someone" not in text


def test_a_folder_is_no_address_that_a_reader_has() -> None:
    text = commands(changed(MANIFEST, dataset__id="/home/someone/names", dataset__revision=None), None)
    assert "someone" not in text
    assert "pkt train DATASET adapter" in text
    assert "pkt verify" not in text


def test_the_citation_names_the_repository_and_is_one_entry() -> None:
    text = model_citation(MANIFEST, "demo/my_names")
    assert text.startswith("@misc{my_names,")
    assert r"title = {{my\_names}}" in text
    assert r"\url{https://huggingface.co/demo/my_names}" in text
    assert text.count("{") == text.count("}")


def test_new_names_are_none_of_the_dataset_where_the_adapter_holds_all_of_them() -> None:
    assert '(repo_id, "taken_names.json")' in new_names_snippet(MANIFEST)
    older = {key: value for key, value in MANIFEST.items() if key != "taken_names"}
    assert '(repo_id, "answers.json")' in new_names_snippet(older)


@pytest.mark.parametrize("system", [None, 'You say "names"\nonly.'])
def test_the_snippet_is_python_whatever_the_texts_are(system: str | None) -> None:
    manifest = changed(MANIFEST, request='"""\n\\', system=system)
    sample = {"description": "a 'quoted' \"thing\"\\"}
    compile(usage_snippet(manifest, [sample], ["<end>"], 'a/"b'), "snippet", "exec")


def test_a_description_too_long_to_take_in_is_no_example() -> None:
    assert "x" * 401 not in usage_snippet(MANIFEST, [{"description": "x" * 401}], [], None)


def test_a_measured_four_bit_base_is_loaded_in_four_bits() -> None:
    manifest = changed(MANIFEST, evaluation_precision={"base": "nf4", "compute": "bfloat16"})
    snippet = usage_snippet(manifest, SAMPLES, ["<end_of_turn>"], "demo/pokepicker")
    compile(snippet, "snippet", "exec")
    assert 'bnb_4bit_quant_type="nf4"' in snippet
    assert "torch.bfloat16" in snippet
