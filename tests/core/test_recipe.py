"""Recipes: every shipped one is valid, and what is wrong is named, all at once, with the right key beside it."""

import pytest

from toolkit.core.errors import InputError
from toolkit.core.recipe import load_recipe


def test_the_seed_recipe_carries_the_seeds_settings():
    recipe = load_recipe("seed-gemma-2b")
    assert recipe.base == "google/gemma-2b-it"
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout, len(recipe.lora.target_modules)) == (6, 8, 0.05, 7)
    training = recipe.training
    assert (training.learning_rate, training.max_steps, training.epochs) == (2e-4, 3000, None)
    assert (training.micro_batch_size, training.batch_size, training.max_length) == (1, 4, 512)
    assert (training.optimizer, training.warmup_steps, training.quantization) == ("paged_adamw_8bit", 0, "nf4")
    assert (recipe.decoding.temperature, recipe.decoding.top_k, recipe.decoding.top_p) == (0.2, 50, 0.95)
    assert recipe.dataset.sources[0].location == "jugg1024/pokemon-gpt4o-captions"


def test_an_override_wins_and_none_leaves_the_recipe_alone():
    recipe = load_recipe("demo", {"training.learning_rate": 1e-4, "lora.r": None, "seed": 3})
    assert (recipe.training.learning_rate, recipe.seed) == (1e-4, 3)
    assert recipe.lora.r == load_recipe("demo").lora.r


def test_epochs_replace_the_recipes_steps():
    recipe = load_recipe("demo", {"training.epochs": 2.0})
    assert (recipe.training.epochs, recipe.training.max_steps) == (2.0, None)


def test_steps_and_epochs_together_are_refused_with_their_values():
    with pytest.raises(InputError, match=r"max_steps = 3000 and epochs = 8 are both given"):
        load_recipe("demo", {"training.epochs": 8.0, "training.max_steps": 3000})


def test_unknown_keys_and_bad_values_are_all_named_with_the_nearest_key(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nbase = "a/b"\nsede = 1\n[training]\nmax_steps = 0\nlerning_rate = 1e-3\n')
    with pytest.raises(InputError) as caught:
        load_recipe(str(file))
    message = str(caught.value)
    assert "unknown key sede (did you mean seed?)" in message
    assert "unknown key training.lerning_rate (did you mean training.learning_rate?)" in message
    assert "training.max_steps: input should be greater than or equal to 1" in message


@pytest.mark.parametrize(
    ("name", "said"),
    [("dmeo", "There is no recipe 'dmeo'"), ("missing.toml", "cannot be read"), ("broken.toml", "is not TOML")],
)
def test_a_recipe_that_cannot_be_read_is_an_input_error(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("= 1")
    with pytest.raises(InputError, match=said):
        load_recipe(name)


def test_a_micro_batch_that_does_not_divide_the_batch_is_refused():
    with pytest.raises(InputError, match="micro_batch_size = 3 does not divide batch_size = 16"):
        load_recipe("demo", {"training.micro_batch_size": 3})


def test_the_settings_of_a_manifest_are_a_recipe_again():
    recipe = load_recipe("demo")
    assert load_recipe(recipe.model_dump()) == recipe


@pytest.mark.parametrize("settings", ["training = 3\n", 'training = "x"\n', "[[training]]\nmax_steps = 3\n"])
def test_a_value_in_the_place_of_a_table_is_named_whatever_the_options_are(settings, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(f'name = "mine"\nbase = "a/b"\ndataset = "corpus"\n{settings}')
    for overrides in ({}, {"training.max_steps": 3}, {"training.epochs": 1.0, "dataset.sources": [{"name": "table"}]}):
        with pytest.raises(InputError) as caught:
            load_recipe(str(file), overrides)
        assert "training: must be a table of settings" in str(caught.value)
        assert "dataset: must be a table of settings" in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("seed", -1, "input should be"),
        ("seed", 2**32, "input should be"),
        ("training.learning_rate", float("nan"), "input should be"),
        ("publish.adapter_repo", "pokepicker", "'pokepicker' is not a Hub id"),
    ],
)
def test_a_value_out_of_range_is_refused(setting, value, said):
    with pytest.raises(InputError, match=f"{setting}: {said}"):
        load_recipe("demo", {setting: value})


def test_a_manifest_without_a_recipe_is_an_input_error():
    with pytest.raises(InputError, match="holds no recipe"):
        load_recipe(None)


@pytest.mark.parametrize(
    ("settings", "near"),
    [("[dataset]\nsource = 'hub'\n", "dataset.sources"), ("[[dataset.sources]]\nlocatoin = 'x'\n", "sources.location")],
)
def test_a_misspelt_key_of_a_source_is_corrected(settings, near, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(f'name = "mine"\nbase = "a/b"\n{settings}[training]\nmax_steps = 1\n')
    with pytest.raises(InputError, match=f"did you mean .*{near}"):
        load_recipe(str(file))


def test_a_key_written_as_other_tools_write_it_is_recognised():
    with pytest.raises(InputError, match=r"unknown key training\.lora_r \(did you mean lora\.r\?\)"):
        load_recipe("demo", {"training.lora_r": 4})


def test_a_file_that_begins_with_a_mark_of_its_encoding_is_read(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nbase = "a/b"\n[training]\nmax_steps = 1\n', encoding="utf-8-sig")
    assert load_recipe(str(file)).name == "mine"


def test_a_module_is_trained_in_one_way():
    with pytest.raises(InputError, match="q_proj stands in target_modules and in modules_to_save"):
        load_recipe("demo", {"lora.modules_to_save": ["q_proj"]})


def test_a_manifest_of_an_older_version_has_the_new_settings_at_their_defaults():
    older = load_recipe("demo").model_dump()
    for key in ("use_rslora", "use_dora", "modules_to_save"):
        del older["lora"][key]
    assert load_recipe(older) == load_recipe("demo")
