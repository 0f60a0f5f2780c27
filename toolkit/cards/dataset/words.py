"""The fixed words of a dataset card, in English and Korean. Knows nothing of any dataset."""

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
SOURCES = {
    "corpus": ("the embedded corpus", "내장 말뭉치"),
    "pokeapi": ("PokéAPI", "PokéAPI"),
    "hub": ("a dataset on the Hub", "Hub의 데이터셋"),
    "table": ("a table", "표 파일"),
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
