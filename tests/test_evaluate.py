"""Evaluation: exact ranks, honest intervals, baselines beside the adapter, samples that nobody selected."""

import pytest
from test_train import recipe, write_dataset

from toolkit import baselines, evaluate, train
from toolkit.errors import InputError
from toolkit.folder import read_json, read_jsonl, read_manifest


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "dataset", splits=("train", "validation", "test", "unseen"))


@pytest.fixture
def adapter(tmp_path, dataset, use_small_base):
    train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    return tmp_path / "adapter"


def measure(adapter, dataset, **how):
    settings = recipe("pokepicker/tiny-gemma")
    return evaluate.evaluate(adapter, dataset, settings.evaluation, settings.decoding, 7, **how)


def test_the_adapter_stands_beside_base_tfidf_and_chance(adapter, dataset):
    evaluation = measure(adapter, dataset)
    assert set(evaluation["test"]["methods"]) == {"adapter", "base", "tfidf", "chance"}
    assert evaluation["candidates"] == 3
    assert evaluation["test"]["methods"]["chance"]["top1"]["value"] == pytest.approx(1 / 3)
    assert evaluation["test"]["methods"]["tfidf"]["top1"]["value"] == 1
    assert read_json(adapter / "evaluation.json") == evaluation


def test_the_base_is_ranked_without_the_adapter(tmp_path, dataset, use_small_base):
    # An adapter of zero training differs from the base in nothing; a trained one must.
    train.train(dataset, tmp_path / "trained", recipe(use_small_base, training__max_steps=60))
    methods = measure(tmp_path / "trained", dataset)["test"]["methods"]
    assert methods["adapter"]["mrr"]["value"] != methods["base"]["mrr"]["value"]


def test_samples_are_the_first_rows_in_order_and_all_of_unseen(adapter, dataset):
    measure(adapter, dataset)
    samples = read_jsonl(adapter / "samples.jsonl")
    assert [sample["split"] for sample in samples] == ["test"] * 3 + ["unseen"] * 3
    assert [sample["answer"] for sample in samples] == ["Vulpix", "Squirtle", "Pikachu"] * 2
    assert all(len(sample["names"]) == 3 for sample in samples)
    assert all(sorted(sample["identified"]) == ["Pikachu", "Squirtle", "Vulpix"] for sample in samples[:3])


def test_the_same_seed_gives_the_same_evaluation_and_samples(adapter, dataset):
    first = measure(adapter, dataset), (adapter / "samples.jsonl").read_bytes()
    assert (measure(adapter, dataset), (adapter / "samples.jsonl").read_bytes()) == first


def test_the_manifest_still_says_how_it_was_trained(adapter, dataset):
    before = read_manifest(adapter, "adapter")
    measure(adapter, dataset)
    after = read_manifest(adapter, "adapter")
    assert after["evaluation_precision"] == {"base": "none", "compute": "float32"}
    assert {key: after[key] for key in ("recipe", "base", "dataset", "steps")} == {
        key: before[key] for key in ("recipe", "base", "dataset", "steps")
    }
    assert "evaluation.json" in after["files"]


def test_a_dataset_with_nothing_to_measure_is_refused(tmp_path, adapter):
    only_train = write_dataset(tmp_path / "only-train", splits=("train",))
    with pytest.raises(InputError, match="neither a test nor an unseen split"):
        measure(adapter, only_train)


def test_wilson_interval_of_a_known_case():
    # 10 of 100: Wilson's interval is 0.0552 to 0.1744 (Newcombe 1998 gives the method; computed by hand).
    figure = evaluate.share(10, 100)
    assert (figure["value"], figure["n"]) == (0.1, 100)
    assert (figure["low"], figure["high"]) == pytest.approx((0.0552, 0.1744), abs=5e-5)


@pytest.mark.parametrize(
    "name", ["Pikabolt", "Mr. Mime", "Farfetch'd", "Nidoran♀", "이상해씨", "이상해씨 (Bulbasaur)", "Ho-Oh"]
)
def test_what_has_the_form_of_a_name(name):
    assert evaluate.is_well_formed(name)


@pytest.mark.parametrize(
    "name", ["", "body:", "a fox", "Xxxxx", "Brrrt", "Wbzkt", "This Is A Long Name", "Pika\nchu", "P", "Aaaa"]
)
def test_what_is_babble(name):
    assert not evaluate.is_well_formed(name)


def test_chance_is_what_guessing_would_give():
    assert baselines.chance(4) == pytest.approx({"top1": 0.25, "top5": 1.0, "mrr": (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4})


def test_ties_share_their_places():
    assert baselines.mean_rank([3.0, 3.0, 1.0], 0) == 1.5
    assert baselines.mean_rank([3.0, 2.0, 1.0], 2) == 3


def test_tfidf_finds_the_nearest_description_and_puts_unknown_answers_last():
    texts, answers = ["blue turtle shell", "red fox tails", "yellow mouse"], ["Squirtle", "Vulpix", "Pikachu"]
    asked = ["a turtle in its shell", "a mouse", "a fox"]
    ranks = baselines.tfidf_ranks(texts, answers, asked, ["Squirtle", "Vulpix", "Mew"], 5)
    assert ranks[0] == 1
    assert ranks[1] > 1
    assert ranks[2] == 4.5


def test_an_adapter_of_another_tiny_base_is_refused(adapter, dataset, monkeypatch, tmp_path, small_base):
    import shutil

    other = shutil.copytree(small_base, tmp_path / "other-base")
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config + "\n")
    monkeypatch.setattr("toolkit.tiny.base_folder", lambda: other)
    with pytest.raises(InputError, match="trained on the tiny base of another version"):
        measure(adapter, dataset)


def test_the_settings_that_were_used_are_what_card_and_verification_read(adapter, dataset):
    settings = recipe("pokepicker/tiny-gemma", decoding__temperature=0.2, evaluation__names_per_description=2)
    evaluate.evaluate(adapter, dataset, settings.evaluation, settings.decoding, 7)
    used = read_manifest(adapter, "adapter")["recipe"]
    assert used["decoding"]["temperature"] == 0.2
    assert used["evaluation"]["names_per_description"] == 2
    assert "temperature=0.2" in (adapter / "README.md").read_text(encoding="utf-8")


def test_a_later_evaluation_keeps_the_libraries_of_the_training(adapter, dataset):
    before = read_manifest(adapter, "adapter")["training_libraries"]
    measure(adapter, dataset)
    assert read_manifest(adapter, "adapter")["training_libraries"] == before
