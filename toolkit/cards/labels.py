"""The fixed words of all cards, in English and Korean, and the labels of methods everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from toolkit.core.layout import BASELINES, BY_LIKELIHOOD, NEW_NAMES

# In the order in which readers compare them.
METHODS = ("adapter", *BASELINES)
LABELS = {
    "en": {
        "adapter": "this adapter",
        "adapter, by likelihood": "this adapter, by likelihood",
        "adapter, new names": "this adapter, new names only",
        "shuffled": "this adapter, descriptions shuffled",
        "base": "the base alone",
        "tfidf": "TF-IDF nearest neighbour",
        "tfidf_centroid": "TF-IDF centroid",
        "encoder": "a sentence encoder",
        "frequent": "the most frequent names",
        "chance": "chance",
    },
    "ko": {
        "adapter": "이 어댑터",
        "adapter, by likelihood": "이 어댑터, 이름의 확률로",
        "adapter, new names": "이 어댑터, 새 이름만",
        "shuffled": "이 어댑터, 설명을 뒤섞음",
        "base": "어댑터 없는 베이스",
        "tfidf": "TF-IDF 최근접 이웃",
        "tfidf_centroid": "TF-IDF 중심",
        "encoder": "문장 인코더",
        "frequent": "가장 잦은 이름",
        "chance": "무작위",
    },
}
# For narrow places: figures and the terminal.
SHORT_LABELS = {
    "adapter": "this model",
    "adapter, by likelihood": "by likelihood",
    "adapter, new names": "new names only",
    "shuffled": "descriptions shuffled",
    "base": "base alone",
    "tfidf": "TF-IDF neighbour",
    "tfidf_centroid": "TF-IDF centroid",
    "encoder": "sentence encoder",
    "frequent": "most frequent names",
    "chance": "chance",
}
# A short explanation of each method.
EXPLAINED = {
    "en": {
        "adapter, by likelihood": "how likely it makes each name, which is all that three lines of `peft` tell",
        "base": "the same prompts, without the adapter",
        "tfidf": "looks for the training description with the most similar words",
        "tfidf_centroid": "looks for the creature whose training descriptions together have the most similar words",
        "encoder": "looks for the training description whose sentence embedding is nearest",
        "frequent": "always says the names that are most frequent in training, whatever the description",
        "chance": "draws names at random",
    },
    "ko": {
        "adapter, by likelihood": "어댑터가 각 이름에 주는 확률로 순위를 매김. `peft` 세 줄로 알 수 있는 것은 이것뿐임",
        "base": "같은 프롬프트, 어댑터 없음",
        "tfidf": "단어가 가장 비슷한 학습 설명을 찾음",
        "tfidf_centroid": "학습 설명을 모두 합쳤을 때 단어가 가장 비슷한 생물을 찾음",
        "encoder": "문장 임베딩이 가장 가까운 학습 설명을 찾음",
        "frequent": "설명과 관계없이 학습에 가장 자주 나온 이름을 답함",
        "chance": "이름을 무작위로 고름",
    },
}
# The example description of a snippet.
EXAMPLE = "A small creature with soft yellow fur and long pointed ears that gives off sparks when it is startled."
# Methods that need no language model to identify a creature.
CHEAP = ("tfidf", "tfidf_centroid", "encoder", "frequent")
# Measures of invented names, the headline first, each with its meaning. Others appear by their key.
INVENTION = {
    "en": {
        "invented": "**invented**: new, and its letters follow each other as in real names",
        "new": "new: different, and no known name nor one letter away from one",
        "different": "different: well formed, and given to no other creature",
        "varied": "varied: how often two names for one description are two different ones",
        "likeness": "likeness: rank among real names by its letters (50% is as name-like as they are; not new is 0)",
        "fits": "fits: of ten descriptions, the model finds the name likeliest after its own (chance is 10%)",
        "well_formed": "well formed: one name in the script of the data, that ended by itself",
        "known": "known: a name of the dataset (the fewer the better)",
        "memorised": "memorised: a name of the training data (the fewer the better)",
    },
    "ko": {
        "invented": "**지어냄**: 새 이름이고, 글자의 짜임이 실제 이름과 같음",
        "new": "새 이름: 다른 이름이며, 아는 이름과 같지도 한 글자 차이도 아님",
        "different": "다른 이름: 이름 꼴을 갖췄고, 다른 생물에게 지어 준 적 없음",
        "varied": "다양함: 한 설명에 지은 두 이름이 서로 다른 이름인 비율",
        "likeness": "닮음: 글자의 짜임으로 본 실제 이름 가운데 순위(50%면 실제 이름만큼 이름다움, 새 이름이 아니면 0)",
        "fits": "어울림: 설명 열 개 가운데 이름이 가장 그럴듯한 것이 제 설명인 비율(무작위면 10%)",
        "well_formed": "이름 꼴을 갖춤: 데이터와 같은 글자로 된 이름 하나, 스스로 끝남",
        "known": "아는 이름: 데이터셋에 있는 이름(적을수록 좋음)",
        "memorised": "외운 이름: 학습 데이터에 있는 이름(적을수록 좋음)",
    },
}
GROUPS = {"en": {"generation": "generation", "type": "type"}, "ko": {"generation": "세대", "type": "타입"}}
# The origin of a source's texts, for a model card.
SOURCES = {
    "en": {
        "corpus": "the corpus that comes with PokePicker Toolkit, written for it by a language model",
        "pokeapi": "game texts from PokéAPI's tables",
        "hub": "a dataset on the Hub",
        "table": "a table of its maker",
    },
    "ko": {
        "corpus": "PokePicker Toolkit에 들어 있는 말뭉치(언어 모델이 이 도구를 위해 새로 씀)",
        "pokeapi": "PokéAPI 표에 있는 게임 속 설명",
        "hub": "Hub의 데이터셋",
        "table": "만든 이의 표 파일",
    },
}

# Of dataset cards: English, Korean.
LANGUAGES = {"en": ("English", "영어"), "ko": ("Korean", "한국어")}
ANSWERS = {
    "en": ("the English name", "영어 이름으로"),
    "ko": ("the Korean name", "한국어 이름으로"),
    "both": ("the Korean name and the English one in brackets", "한국어 이름에 영어 이름을 괄호로 덧붙여"),
}
PURPOSES = {
    "train": ("to learn from", "학습용"),
    "validation": (
        "other descriptions of creatures in `train`: to watch training",
        "`train`에 있는 개체의 다른 설명: 학습 점검용",
    ),
    "test": ("other descriptions of creatures in `train`: to measure", "`train`에 있는 개체의 다른 설명: 평가용"),
    "unseen": ("creatures that no other split has: to invent names for", "다른 분할에 없는 개체: 새 이름 짓기용"),
}
# Kinds of sources in a dataset card.
SOURCE_KINDS = {
    "corpus": "the embedded corpus",
    "pokeapi": "PokéAPI",
    "hub": "a dataset on the Hub",
    "table": "a table",
}
DROPPED_KO = {
    "language": "요청하지 않은 언어",
    "empty": "빈 설명",
    "no-name": "이름 없음",
    "no-answer": "답으로 쓸 언어의 이름 없음",
    "control-token": "채팅 템플릿의 제어 토큰이 들어 있음",
    "broken": "깨진 글자",
    "wrong-letters": "표시된 언어의 글자가 아님",
    "too-short": "너무 짧음",
    "too-long": "너무 김",
    "unmaskable": "가림 표현에 이름이 들어 있음",
    "near-name": "이름과 거의 같은 말이 들어 있음",
    "duplicate": "같은 개체의 같은 설명이 이미 있음",
    "ambiguous": "이름이 다른 개체들의 설명이 똑같음",
}


def ordered_methods(methods: Iterable[str]) -> list[str]:
    """The methods in the order of `METHODS`, other adapters after the base, and behind each its other ways."""
    place = {name: index for index, name in enumerate(METHODS)}

    def key(name: str) -> tuple[float, str]:
        return place.get(name.removesuffix(NEW_NAMES).removesuffix(BY_LIKELIHOOD), 1.5), name

    return sorted(methods, key=key)
