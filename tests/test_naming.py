"""One description, one adapter: names or candidates, or one clear error."""

import pytest
from test_model import make_adapter

from toolkit import naming
from toolkit.errors import EnvironmentLacks, InputError
from toolkit.folder import read_json, write_json


@pytest.fixture
def adapter(tmp_path, small_base, use_small_base):
    return make_adapter(tmp_path / "adapter", small_base)


def test_names_are_sampled_and_candidates_share_all_probability(adapter):
    assert naming.name(adapter, "A red fox.", 2, 7) == naming.name(adapter, "A red fox.", 2, 7)
    found = naming.identify(adapter, "A red fox.", 5)
    assert {answer for answer, _ in found} == {"Squirtle", "Vulpix"}
    assert sum(share for _, share in found) == pytest.approx(1)


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"kind": "dataset"}'])
@pytest.mark.parametrize(
    "ask", [lambda folder: naming.name(folder, "A fox.", 1, 0), lambda folder: naming.identify(folder, "A fox.", 1)]
)
def test_a_folder_without_an_adapters_manifest_is_refused(adapter, manifest, ask):
    (adapter / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match="no folder of the kind"):
        ask(adapter)


@pytest.mark.parametrize("recipe", [None, 3, {}, {"name": "x", "decoding": {"top_k": 0}}])
def test_a_manifest_whose_recipe_is_damaged_is_an_input_error(adapter, recipe):
    write_json(adapter / "manifest.json", read_json(adapter / "manifest.json") | {"recipe": recipe})
    with pytest.raises(InputError, match=r"[Rr]ecipe"):
        naming.name(adapter, "A fox.", 1, 0)


@pytest.mark.parametrize("answers", ["{}", "[]", "[1]", '"Vulpix"', '["Vulpix", null]'])
def test_answers_that_are_no_list_of_texts_are_an_input_error(adapter, answers):
    (adapter / "answers.json").write_text(answers)
    with pytest.raises(InputError, match=r"answers\.json is not a list of answers"):
        naming.identify(adapter, "A fox.", 1)


def test_too_little_memory_while_naming_is_the_machines_lack(adapter, monkeypatch):
    from toolkit import generate, rank

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(generate, "sample_names", fail)
    monkeypatch.setattr(rank, "log_likelihoods", fail)
    with pytest.raises(EnvironmentLacks):
        naming.name(adapter, "A fox.", 1, 0)
    with pytest.raises(EnvironmentLacks):
        naming.identify(adapter, "A fox.", 1)
