"""An encoder learns from pairs of descriptions, and is measured, asked and published from its folder alone."""

import pytest
from huggingface_hub import HfApi

from support.encoders import small_encoder
from support.training import write_dataset
from toolkit.core.errors import InputError
from toolkit.core.folder import file_hashes, read_jsonl, read_manifest
from toolkit.core.recipe import load_recipe
from toolkit.evaluation.evaluate import evaluate
from toolkit.hub import reproduce
from toolkit.hub.local.serve import running_hub
from toolkit.hub.publish import publish
from toolkit.model.encoder import identify
from toolkit.training.encoder import pairs, train_encoder
from toolkit.training.train import train

ROWS = [(f"It is number {number}; seen {visit} times.", f"Beast{number}") for number in range(9) for visit in range(3)]


def recipe(**settings):
    return load_recipe("identify-minilm", {"base": "owner/encoder", "training.batch_size": 2} | settings)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A dataset, and a Hub with an encoder of a few bytes."""
    pytest.importorskip("sentence_transformers", reason="the extra `encoder` is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PKT_CACHE", str(tmp_path / "pkt-cache"))
    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        HfApi(endpoint=url).create_repo("owner/encoder")
        folder = small_encoder(tmp_path / "encoder")
        HfApi(endpoint=url).upload_folder(repo_id="owner/encoder", folder_path=folder)
        yield write_dataset(tmp_path / "dataset")


def test_a_batch_holds_pairs_of_different_creatures_and_the_seed_decides_them():
    asked = recipe(**{"training.batch_size": 4, "training.augmentation": 0.0})
    drawn = list(pairs(ROWS, asked, 20))
    owner = dict(ROWS)
    assert all(owner[first] == owner[second] and first != second for first, second in drawn)
    assert all(len({owner[first] for first, _ in batch}) == 4 for batch in zip(*[iter(drawn)] * 4, strict=True))
    assert drawn == list(pairs(ROWS, asked, 20))
    assert drawn != list(pairs(ROWS, asked.model_copy(update={"seed": 8}), 20))


def test_descriptions_are_seen_anew_and_one_alone_is_its_own_pair():
    seen = {text for pair in pairs([ROWS[0], ROWS[3]], recipe(), 50) for text in pair}
    assert {ROWS[0][0], "seen 0 times.", "seen 0 times. It is number 0;"} <= seen


def test_an_encoder_is_trained_measured_asked_and_published_from_its_folder(dataset, tmp_path):
    out = tmp_path / "out"
    settings = recipe(**{"training.epochs": 2, "training.log_every": 1})
    result = train_encoder(dataset, out, settings)
    assert result.steps == 6
    evaluation = evaluate(out, dataset)
    assert evaluation["test"]["methods"]["adapter"]["top1"]["value"] == 1
    assert evaluation["test"]["methods"]["base"]["top1"]["value"] == 1
    assert evaluation["unseen"] is None
    assert identify(out, "A fox!", 2).candidates[0].name == "Vulpix"
    publish(out, "demo/encoder", verify=False)
    code = reproduce.python_code((out / "README.md").read_text())
    manifest, samples = read_manifest(out, "encoder"), read_jsonl(out / "samples.jsonl")
    assert reproduce.is_ours(code, manifest, samples, "demo/encoder")
    there = reproduce.Repository("demo/encoder", "", out, manifest, samples)
    assert reproduce.other_creatures(there) == []
    (out / "answers.json").write_text('["Squirtle", "Vulpix", "Pikachu"]')
    assert "published Vulpix" in reproduce.other_creatures(there)[0]


def test_a_finished_encoder_is_kept_and_others_replace_it_only_when_asked_to(dataset, tmp_path):
    notes, out = [], tmp_path / "out"
    train_encoder(dataset, out, recipe())
    before = file_hashes(out)
    train_encoder(dataset, out, recipe(), note=notes.append)
    assert "already" in notes[0]
    assert file_hashes(out) == before
    with pytest.raises(InputError, match="other recipe"):
        train_encoder(dataset, out, recipe(seed=8))
    train_encoder(dataset, out, recipe(seed=8), restart=True)
    assert file_hashes(out) != before


def test_an_interrupted_training_leaves_nothing(dataset, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(dataset, tmp_path / "out", recipe(), progress=interrupt)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"training.compute": "bfloat16"}, "without `training.compute`"),
        ({"lora.r": 4}, "without `lora`"),
        ({"base": "encoder"}, "is no Hub id"),
        ({"task": "name"}, "trains an adapter"),
    ],
)
def test_what_an_encoder_has_no_use_for_is_refused(settings, why, tmp_path):
    with pytest.raises(InputError, match=why):
        train_encoder(tmp_path, tmp_path / "out", recipe(**settings))


def test_an_adapter_is_not_trained_by_the_recipe_of_an_encoder(tmp_path):
    with pytest.raises(InputError, match="makes no adapter"):
        train(tmp_path, tmp_path / "out", recipe())
