"""Ranking many candidates in tries after one prompt gives what separate full passes give."""

import random

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from support.models import FAMILIES, SMALL, family_model, small_model
from toolkit.core import ignore
from toolkit.core.errors import InputError
from toolkit.core.recipe import load_recipe
from toolkit.model import base as bases
from toolkit.model import loading as model
from toolkit.model import rank
from toolkit.model.prompts import Reader

PROMPT = [2, 11, 12, 13, 14, 15]
# One candidate is a prefix of another, one comes twice, one is a single token.
CANDIDATES = [
    [20, 21, 22, 1],
    [20, 21, 1],
    [20, 1],
    [30, 31, 32, 33, 34, 1],
    [1],
    [20, 21, 22, 23, 1],
    [20, 21],
    [40, 1],
    [20, 21, 1],
]
# Beyond those of the packing: sinks, learned positions, ALiBi, recurrent and convolutional states, chunks, a cache of
# its own.
OTHERS = {
    "gpt_oss": {"sliding_window": 8},
    "gpt2": {},
    "opt": {},
    "bloom": {},
    "mixtral": {},
    "cohere2": FAMILIES["olmo3"],
    "llama4_text": {"attention_chunk_size": 8},
    "qwen3_next": {},
    "mamba": {},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "minimax": {},
}


def separate_passes(model, prompt, candidates):
    scores = []
    for candidate in candidates:
        ids = torch.tensor([prompt + candidate])
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        picked = logits.double().log_softmax(-1).gather(1, torch.tensor(candidate)[:, None])
        scores.append(float(picked.sum()))
    return scores


def score(model, prompt, prepared, progress=ignore, reader=None):
    """After one prompt, by a reader that is new, or that has read before."""
    return rank.score((reader or Reader(model)).read([prompt]), prepared, progress)[0]


def assert_equal_to_separate_passes(model, prompt, candidates, prepared=None):
    scores = score(model, prompt, prepared or rank.prepare(candidates))
    assert scores == pytest.approx(separate_passes(model, prompt, candidates), abs=1e-4)


def many(count, seed=0):
    """Distinct candidates that share beginnings, all with the same end."""
    rng = random.Random(seed)
    found = set()
    while len(found) < count:
        found.add((*(rng.randrange(20, 60) for _ in range(rng.randint(1, 5))), 1))
    return [list(candidate) for candidate in found]


def watch_passes(model, do):
    """Call `do` with the tokens of every pass."""
    model.register_forward_pre_hook(lambda _module, _args, inputs: do(inputs["input_ids"].numel()), with_kwargs=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("room", [2, 64])
def test_scores_equal_separate_full_passes(family, room, monkeypatch):
    monkeypatch.setattr(rank, "LARGEST_ROW", room)
    model = small_model(family, **{**FAMILIES[family], "vocab_size": 300, "sliding_window": 64}).eval()
    prepared = rank.prepare(CANDIDATES)
    assert_equal_to_separate_passes(model, PROMPT, CANDIDATES, prepared)
    assert Reader(model).reads_together
    assert list(prepared.rows) == [room]


@pytest.mark.parametrize("family", FAMILIES)
def test_so_they_do_where_the_window_is_shorter_than_the_prompt(family):
    assert_equal_to_separate_passes(family_model(family).eval(), [*PROMPT, *range(50, 60)], CANDIDATES)


@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("prompt", [[2], [*PROMPT, *range(50, 60)]])
def test_so_they_do_in_families_that_read_otherwise(family, prompt):
    assert_equal_to_separate_passes(small_model(family, **OTHERS[family]).eval(), prompt, CANDIDATES)


@pytest.mark.parametrize("family", ["qwen3_next", "bloom", "mamba", "lfm2", "minimax"])
def test_a_model_that_cannot_read_tries_is_found_out(family):
    assert not Reader(small_model(family, **OTHERS[family]).eval()).reads_together


def test_prepared_candidates_score_the_same_after_each_prompt_as_fresh_ones():
    model, candidates = small_model("gemma3_text").eval(), many(50)
    prepared = rank.prepare(candidates)
    for prompt in (PROMPT, PROMPT[:3], [*PROMPT, 16, 17], PROMPT):
        assert score(model, prompt, prepared) == rank.log_likelihoods(model, prompt, candidates)


@pytest.mark.parametrize("family", ["gemma", "qwen3_next"])
@pytest.mark.parametrize("candidate", [[20, 21, 1], [1]])
def test_one_candidate_is_scored(family, candidate):
    assert_equal_to_separate_passes(small_model(family).eval(), PROMPT, [candidate])


def test_a_candidate_without_tokens_is_refused():
    with pytest.raises(InputError, match="no tokens"):
        rank.prepare([[20, 1], []])


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_weights_that_are_no_numbers_are_an_error_not_a_ranking(family):
    model = small_model(family).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight[7, 0] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite"):
        rank.log_likelihoods(model, PROMPT, CANDIDATES)


def test_a_token_that_cannot_come_has_probability_zero():
    model = small_model("llama").eval()

    def forbid(_module, _args, outputs):
        outputs.logits[..., 40] = -torch.inf

    model.register_forward_hook(forbid)
    scores = rank.log_likelihoods(model, PROMPT, CANDIDATES)
    assert [candidate for candidate, score in zip(CANDIDATES, scores, strict=True) if score == -torch.inf] == [[40, 1]]


@pytest.mark.parametrize("family", ["gemma", "bloom"])
@pytest.mark.parametrize("count", [50, 1000])
def test_no_pass_grows_with_the_number_of_candidates(family, count, monkeypatch):
    monkeypatch.setattr(rank, "AT_ONCE", {"cpu": 128})
    model, sizes = small_model(family).eval(), []
    watch_passes(model, sizes.append)
    rank.log_likelihoods(model, PROMPT, many(count))
    assert 64 <= max(sizes) <= 128


def test_a_large_vocabulary_makes_passes_smaller(monkeypatch):
    monkeypatch.setattr(rank, "LOGIT_BYTES", 97 * 4 * 16)
    model, sizes = small_model("gemma").eval(), []
    watch_passes(model, sizes.append)
    rank.log_likelihoods(model, PROMPT, many(50))
    assert max(sizes) == 16


def test_what_candidates_share_is_computed_once():
    model, sizes = small_model("gemma").eval(), []
    prepared, reader = rank.prepare([[20, 21, 22, 23, last, 1] for last in range(30, 60)]), Reader(model, PROMPT[:2])
    score(model, PROMPT, prepared, reader=reader)
    watch_passes(model, sizes.append)
    score(model, PROMPT, prepared, reader=reader)
    assert sizes == [len(PROMPT) - 2, 4 + 30]


@pytest.mark.parametrize("family", ["gemma", "bloom"])
def test_progress_is_told_after_each_pass_up_to_the_last_distinct_candidate(family, monkeypatch):
    monkeypatch.setattr(rank, "AT_ONCE", {"cpu": 128})
    model, candidates, told, sizes = small_model(family).eval(), many(500), [], []
    prepared, reader = rank.prepare([*candidates, *candidates]), Reader(model)
    together = reader.reads_together
    watch_passes(model, sizes.append)
    score(model, PROMPT, prepared, lambda _, done, of: told.append((done, of)), reader)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (500, 500)
    # Where the prompt is read once, that is a pass too.
    assert len(told) == len(sizes) - together > 3


def test_progress_is_told_of_many_answers_that_become_tokens_and_not_of_few(tokenizer, monkeypatch):
    monkeypatch.setattr(rank, "REPORTED", 3)
    told = []
    for count in (2, 7):
        answers = [f"Vulpix{number}" for number in range(count)]
        ids = rank.encode_answers(tokenizer, answers, lambda _, done, of: told.append((done, of)))
        assert ids == rank.encode_answers(tokenizer, answers)
    assert told == [(3, 7), (6, 7)]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
@pytest.mark.parametrize("family", ["gemma", "bloom"])
def test_out_of_memory_makes_passes_smaller_also_for_later_prompts(family, error):
    model, candidates, failures = small_model(family).eval(), many(60), []
    prompt, prepared = PROMPT[:3], rank.prepare(candidates)
    expected = separate_passes(model, prompt, candidates)
    score(model, prompt, prepared)

    def hold_only_20(size):
        if size > 20:
            failures.append(size)
            raise error

    watch_passes(model, hold_only_20)
    assert score(model, prompt, prepared) == pytest.approx(expected, abs=1e-4)
    assert failures
    assert prepared.at_once == 16
    failures.clear()
    assert score(model, prompt, prepared) == pytest.approx(expected, abs=1e-4)
    assert not failures


def test_an_adapter_switched_off_gives_the_scores_of_the_base(small_base):
    base = bases.LocatedBase("x/base", None, small_base)
    loaded = model.load_base(base, model.Precision("none", "float32")).eval()
    prepared = rank.prepare(CANDIDATES)
    of_base = score(loaded, PROMPT, prepared)
    adapted = adapted_model(loaded)
    assert_equal_to_separate_passes(adapted, PROMPT, CANDIDATES, prepared)
    assert score(adapted, PROMPT, prepared) != pytest.approx(of_base, abs=1e-2)
    with adapted.disable_adapter():
        assert score(adapted, PROMPT, prepared) == of_base


def test_a_base_in_4_bits_with_an_adapter_scores_as_separate_passes(small_base):
    base = bases.LocatedBase("x/base", None, small_base)
    adapted = adapted_model(model.load_base(base, model.Precision("nf4", "float32")))
    assert_equal_to_separate_passes(adapted, PROMPT, CANDIDATES)


def adapted_model(base_model):
    """With an adapter that changes something."""
    adapted = model.add_lora(base_model, load_recipe("demo", {"lora.r": 2}).lora, 7)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return adapted.eval()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gemma2", "qwen3", "mistral", "bloom"])
def test_half_precision_differs_from_full_by_its_rounding_only(family, dtype):
    model, prepared = small_model(family).eval(), rank.prepare(CANDIDATES)
    full = score(model, PROMPT, rank.prepare(CANDIDATES))
    scores = score(model.to(dtype), PROMPT, prepared)
    assert scores == pytest.approx(full, abs=0.1)
    assert Reader(model).reads_together == (family != "bloom")


def test_a_model_that_also_sees_pictures_reads_tries():
    eyes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CONFIG_MAPPING["gemma3"](
        text_config=SMALL | {"vocab_size": 300, "model_type": "gemma3_text"},
        vision_config=eyes | {"image_size": 32, "patch_size": 8, "model_type": "siglip_vision_model"},
    )
    model, prepared = AutoModelForCausalLM.from_config(config).eval(), rank.prepare(CANDIDATES)
    assert_equal_to_separate_passes(model, PROMPT, CANDIDATES, prepared)
    assert Reader(model).reads_together
