"""The baselines rank the answers of every dataset, and the encoder says what it lacks."""

import importlib.util

import numpy as np
import pytest
from huggingface_hub import HfApi

from support.encoders import small_encoder
from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.evaluation import baselines
from toolkit.evaluation.baselines import Described
from toolkit.hub.local.serve import running_hub
from toolkit.model import encoder as encoders

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="the extra `encoder` is not installed"
)
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(encoders.PACKAGED) is None, reason="the package with the encoder's weights is missing"
)

TEXTS = ["a red fox with six tails", "a red fox in the snow", "a blue turtle", "a yellow mouse with a bolt"]
KNOWN = Described(TEXTS, ["Vulpix", "Vulpix", "Squirtle", "Pikachu"])


@pytest.mark.parametrize("ranks", [baselines.tfidf_ranks, baselines.centroid_ranks])
def test_descriptions_of_stop_words_alone_are_all_equally_near(ranks):
    assert ranks(Described(["the and of", "the"], ["Vulpix", "Pikachu"]), Described(["and the"], ["Vulpix"]), 2) == [
        (1.5, 2)
    ]


@pytest.mark.parametrize("ranks", [baselines.tfidf_ranks, baselines.centroid_ranks])
def test_the_words_find_the_creature_and_unknown_answers_share_the_last_places(ranks):
    asked = ["the fox and its tails", "a turtle", "a mouse"]
    assert ranks(KNOWN, Described(asked, ["Vulpix", "Squirtle", "Mew"]), 7) == [(1, 1), (1, 1), (5.5, 4)]


@pytest.mark.parametrize("ranks", [baselines.tfidf_ranks, baselines.centroid_ranks])
def test_creatures_that_nothing_tells_apart_share_their_places(ranks):
    found = ranks(
        Described(["red fox", "red fox", "blue turtle"], ["Vulpix", "Ninetales", "Mew"]),
        Described(["a red fox"], ["Vulpix"]),
        3,
    )
    assert found == [(1.5, 2)]


def test_a_centroid_weighs_all_descriptions_of_a_creature_and_the_neighbour_only_one():
    texts = ["fox", "snow wind", "hail rain", "fox ice"]
    answers = ["Mew", "Mew", "Mew", "Abra"]
    assert baselines.tfidf_ranks(Described(texts, answers), Described(["fox"], ["Mew"]), 2) == [(1, 1)]
    assert baselines.centroid_ranks(Described(texts, answers), Described(["fox"], ["Mew"]), 2) == [(2, 1)]


def test_korean_words_meet_whatever_particle_they_carry():
    texts = ["꼬리가 여섯 갈래인 붉은 여우이다", "푸른 등껍질을 지닌 거북이다", "노란 쥐가 번개를 모은다"]
    asked = ["여우는 붉고 꼬리를 자랑한다", "거북의 등껍질은 푸르다", "번개는 쥐의 볼에 모인다"]
    answers = ["식스테일", "꼬부기", "피카츄"]
    assert baselines.tfidf_ranks(Described(texts, answers), Described(asked, answers), 3) == [(1, 1)] * 3
    assert baselines.centroid_ranks(Described(texts, answers), Described(asked, answers), 3) == [(1, 1)] * 3


def test_comparing_in_pieces_changes_nothing_but_memory(monkeypatch):
    generator = np.random.default_rng(0)
    words = [f"word{number}" for number in range(60)]
    texts = [" ".join(generator.choice(words, size=8)) for _ in range(90)]
    answers = [f"creature{number % 20}" for number in range(90)]
    known, asked = Described(texts[:60], answers[:60]), Described(texts[60:], answers[60:])
    whole = baselines.tfidf_ranks(known, asked, 25)
    monkeypatch.setattr(baselines, "HELD_AT_ONCE", 100)
    assert baselines.tfidf_ranks(known, asked, 25) == whole
    assert min(whole) == (1, 1)


def test_dense_rows_are_ranked_as_sparse_ones_are():
    from scipy.sparse import csr_array

    train, asked = np.eye(3), np.array([[0.9, 0.1, 0.4], [0.1, 0.2, 0.9]])
    expected = [(1, 1), (2, 1)]
    assert baselines.nearest_ranks(train, ["A", "B", "C"], asked, ["A", "B"], 3) == expected
    assert baselines.nearest_ranks(csr_array(train), ["A", "B", "C"], csr_array(asked), ["A", "B"], 3) == expected


def test_frequent_answers_come_first_and_as_frequent_ones_share_their_places():
    train = ["Vulpix"] * 3 + ["Mew"] * 2 + ["Abra"] * 2 + ["Onix"]
    asked = ["Vulpix", "Mew", "Abra", "Onix", "Ditto"]
    assert baselines.frequent_ranks(Described([], train), Described([], asked), 8) == [
        (1, 1),
        (2.5, 2),
        (2.5, 2),
        (4, 1),
        (6.5, 4),
    ]


# The encoder.

MEANINGS = ["A crimson fox sits in the snow.", "A reptile with a hard shell swims.", "A rodent stores electricity."]
NAMES = ["Vulpix", "Squirtle", "Pikachu"]


@needs_extra
def test_a_folder_is_an_encoder_and_unknown_answers_share_the_last_places(tmp_path):
    known, asked = Described(["fox", "turtle", "mouse"], NAMES), Described(["fox fox", "turtle fox"], ["Vulpix", "Mew"])
    ranks = baselines.encoder_ranks(str(small_encoder(tmp_path / "encoder")), known, asked, 6)
    assert ranks == [(1, 1), (5, 3)]


@needs_extra
@needs_weights
def test_the_default_encoder_finds_meanings_without_a_shared_word_and_without_the_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = ["Red vulpine animal on a winter day", "Armoured turtle in water", "Mouse charged with lightning"]
    ranks = baselines.encoder_ranks(None, Described(MEANINGS, NAMES), Described(asked, NAMES), 3)
    assert ranks == [(1, 1)] * 3


def test_without_the_extra_it_says_how_to_install_it(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sentence_transformers" else found(name)
    )
    with pytest.raises(EnvironmentLacks, match=r"pip install sentence-transformers"):
        baselines.encoder_ranks(None, KNOWN, KNOWN, 3)


@needs_extra
def test_a_folder_without_an_encoder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is no sentence encoder"):
        encoders.load_encoder(tmp_path)


@needs_extra
def test_an_encoder_comes_from_the_chosen_hub_without_its_pickles(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = small_encoder(tmp_path / "encoder")
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    known, asked = Described(["fox", "mouse"], ["Vulpix", "Pikachu"]), Described(["mouse"], ["Pikachu"])
    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        HfApi(endpoint=url).create_repo("owner/encoder")
        HfApi(endpoint=url).upload_folder(repo_id="owner/encoder", folder_path=folder)
        ranks = baselines.encoder_ranks("owner/encoder", known, asked, 2)
    assert ranks == [(1, 1)]
    assert not list((tmp_path / "cache").rglob("*.bin"))
