"""The encoder baseline looks for the nearest meaning, and says what it lacks."""

import importlib.util
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from toolkit.core.errors import EnvironmentLacks, HubError, InputError
from toolkit.evaluation import encoder
from toolkit.hub.local.serve import running_hub

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="the extra `encoder` is not installed"
)
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(encoder.PACKAGED) is None, reason="the package with the encoder's weights is not installed"
)

TEXTS = ["A crimson fox sits in the snow.", "A reptile with a hard shell swims.", "A rodent stores electricity."]
ANSWERS = ["Vulpix", "Squirtle", "Pikachu"]


@pytest.fixture
def small_encoder(tmp_path) -> Path:
    """An encoder with one direction for each of four words, saved as a folder."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "fox": 1, "turtle": 2, "mouse": 3}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    module = StaticEmbedding(words, embedding_weights=np.eye(4, dtype="float32"))
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(tmp_path / "encoder"))
    return tmp_path / "encoder"


@needs_extra
def test_a_folder_is_an_encoder_and_unknown_answers_share_the_last_places(small_encoder):
    ranks = encoder.encoder_ranks(
        str(small_encoder), ["fox", "turtle", "mouse"], ANSWERS, ["fox fox", "turtle fox"], ["Vulpix", "Mew"], 6
    )
    assert ranks == [(1, 1), (5, 3)]


@needs_extra
@needs_weights
def test_the_default_encoder_finds_meanings_without_a_shared_word_and_without_the_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = ["Red vulpine animal on a winter day", "Armoured turtle in water", "Mouse charged with lightning"]
    assert encoder.encoder_ranks(encoder.DEFAULT_ENCODER, TEXTS, ANSWERS, asked, ANSWERS, 3) == [(1, 1)] * 3


def test_without_the_extra_it_says_how_to_install_it(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sentence_transformers" else found(name)
    )
    with pytest.raises(EnvironmentLacks, match=r"pip install sentence-transformers"):
        encoder.encoder_ranks(encoder.DEFAULT_ENCODER, TEXTS, ANSWERS, TEXTS, ANSWERS, 3)


@needs_extra
def test_a_folder_without_an_encoder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is no sentence encoder"):
        encoder.load_encoder(str(tmp_path))


@needs_extra
def test_a_name_that_is_neither_folder_nor_hub_id_is_refused():
    with pytest.raises(InputError, match="There is no encoder folder nowhere"):
        encoder.load_encoder("nowhere")


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


@needs_extra
def test_an_encoder_comes_from_the_chosen_hub_without_its_pickles(endpoint, small_encoder, tmp_path):
    (small_encoder / "pytorch_model.bin").write_bytes(b"anything")
    HfApi(endpoint=endpoint).create_repo("owner/encoder")
    HfApi(endpoint=endpoint).upload_folder(repo_id="owner/encoder", folder_path=small_encoder)
    ranks = encoder.encoder_ranks("owner/encoder", ["fox", "mouse"], ["Vulpix", "Pikachu"], ["mouse"], ["Pikachu"], 2)
    assert ranks == [(1, 1)]
    assert not list((tmp_path / "cache").rglob("*.bin"))


@needs_extra
def test_an_encoder_that_the_hub_does_not_have_is_named(endpoint):
    with pytest.raises(HubError, match="the encoder owner/nothing"):
        encoder.load_encoder("owner/nothing")
