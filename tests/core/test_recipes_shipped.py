"""Every shipped recipe can be used as it is, says why for each setting, and is documented."""

import re
from importlib.resources import files

import pytest

from support.paths import ROOT
from toolkit.core.layout import TINY_BASE_ID
from toolkit.core.recipe import load_recipe, recipe_names
from toolkit.model.doctor import KNOWN

DOCUMENTATION = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
every_recipe = pytest.mark.parametrize("name", recipe_names())
# Named, and explained by the comment at the head of the file.
PLAIN = {"name", "seed", "location"}


def text(name):
    return (files("toolkit.core") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def test_every_recipe_has_a_section_in_the_documentation_and_no_other_has():
    assert sorted(re.findall(r"^## `([\w-]+)`", DOCUMENTATION, re.MULTILINE)) == recipe_names()


@every_recipe
def test_a_recipe_is_valid_and_bears_its_file_name(name):
    assert load_recipe(name).name == name


@every_recipe
def test_a_recipe_names_its_base_by_a_hub_id_whose_size_is_known(name):
    recipe = load_recipe(name)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", recipe.base)
    assert recipe.base == TINY_BASE_ID or recipe.base in KNOWN or recipe.task == "identify"
    section = DOCUMENTATION.split(f"## `{name}`")[1].split("\n## ")[0]
    assert recipe.base in section


@every_recipe
def test_a_recipe_pins_a_commit_or_none(name):
    revision = load_recipe(name).base_revision
    assert revision is None or re.fullmatch("[0-9a-f]{40}", revision)


@every_recipe
def test_every_group_of_settings_has_a_reason_above_it(name):
    """A comment holds for the settings below it, as far as the next comment, blank line or table."""
    unexplained, explained = [], False
    for line in text(name).splitlines():
        if line.startswith("#"):
            explained = True
        elif not line or line.startswith("["):
            explained = False
        elif not explained and line.split(" = ")[0] not in PLAIN:
            unexplained.append(line)
    assert not unexplained


@every_recipe
def test_a_recipe_of_a_real_base_publishes_nowhere_by_itself(name):
    recipe = load_recipe(name)
    assert recipe.publish.local_hub == (recipe.base == TINY_BASE_ID)
    assert recipe.base == TINY_BASE_ID or recipe.publish.adapter_repo is None


def test_the_t4_recipe_is_compared_with_the_seeds_on_the_same_rows():
    ours, seed = load_recipe("gemma-2b-t4"), load_recipe("seed-gemma-2b")
    assert (ours.base, ours.dataset, ours.seed) == (seed.base, seed.dataset, seed.seed)


def test_the_korean_recipe_asks_reads_and_answers_in_korean():
    dataset = load_recipe("midm-2b-ko").dataset
    assert (dataset.description_language, dataset.answer, dataset.request) == ("ko", "ko", None)
