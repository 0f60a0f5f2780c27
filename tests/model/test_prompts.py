"""Prompts that are read together give what each gives alone: rankings, likeliest names and sampled ones."""

import math

import pytest
import torch

from support.models import FAMILIES, small_model
from toolkit.core.recipe import DecodingSettings
from toolkit.model import generate, rank
from toolkit.model.prompts import Reader, in_columns, shared_opening

OPENING = [2, 11, 12, 13]
PROMPTS = [[*OPENING, 14, 15, 16, 17], [*OPENING, 18], [*OPENING, 14, 19, 20], [*OPENING, 21, 22, 23, 24, 25]]
CANDIDATES = [[first, second, 1] for first in range(30, 50) for second in (20, 21)] + [[30, 1], [31, 20, 22, 1]]
SETTINGS = DecodingSettings(max_new_tokens=6, temperature=2.0, top_k=97, top_p=0.9)
# A window that holds prompt and answer, one that does not, and a state that no mask reaches.
MODELS = {
    **{family: {**FAMILIES[family], "sliding_window": 64} for family in ("gemma3_text", "qwen3", "gemma4_text")},
    "llama": {},
    "mistral": {"sliding_window": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "bloom": {},
}


@pytest.fixture(params=MODELS)
def model(request):
    model = small_model(request.param, **{"vocab_size": 300, **MODELS[request.param]}).eval()
    # Random weights say the same whatever they read, unless the last layers are steeper.
    with torch.no_grad():
        model.get_output_embeddings().weight *= 8
    return model


def test_what_prompts_begin_with_leaves_each_a_rest():
    assert shared_opening(PROMPTS) == OPENING
    assert shared_opening([OPENING, OPENING]) == OPENING[:-1]
    assert shared_opening([[1, 2], [2, 2]]) == shared_opening([]) == []


@pytest.mark.parametrize("opening", [[], OPENING, [7]], ids=["no opening", "opening", "another opening"])
def test_rankings_are_those_of_each_prompt_alone(model, opening):
    reader = Reader(model, opening)
    together = rank.score(reader.read(PROMPTS), rank.prepare(CANDIDATES))
    for prompt, scores in zip(PROMPTS, together, strict=True):
        assert scores == pytest.approx(rank.log_likelihoods(model, prompt, CANDIDATES), abs=1e-4)
        # A second question is not answered from the first.
        (again,) = rank.score(reader.read([prompt]), rank.prepare(CANDIDATES))
        assert scores == pytest.approx(again, abs=1e-4)


@pytest.mark.parametrize("opening", [[], OPENING], ids=["no opening", "opening"])
def test_the_state_of_a_prompt_is_what_its_logits_are_made_from(model, opening):
    read = Reader(model, opening).read(PROMPTS)
    for state, prompt in zip(read.states, PROMPTS, strict=True):
        whole = model(input_ids=torch.tensor([prompt]), use_cache=False, output_hidden_states=True)
        torch.testing.assert_close(state, whole.hidden_states[-1][0, -1], rtol=0, atol=1e-4)
    assert torch.equal(read.some([2, 0]).states, read.states[[2, 0]])
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_likeliest_names_are_those_of_each_prompt_alone(model, tokenizer):
    together = generate.greedy_names(Reader(model, OPENING).read(PROMPTS), tokenizer, SETTINGS)
    alone = [generate.greedy_names(in_columns(model, [prompt]), tokenizer, SETTINGS)[0] for prompt in PROMPTS]
    assert together == alone
    assert len(set(together)) > 1


def test_names_of_a_prompt_depend_on_its_seed_and_not_on_the_prompts_beside_it(model, tokenizer):
    seeds = [5, 6, 5, 7]
    together = generate.sample(Reader(model, OPENING).read(PROMPTS), tokenizer, SETTINGS, 3, seeds)
    for prompt, seed, names in zip(PROMPTS, seeds, together, strict=True):
        assert generate.sample(in_columns(model, [prompt]), tokenizer, SETTINGS, 3, [seed]) == [names]
    assert together[0] != together[2]


def test_a_penalty_for_tokens_of_the_prompt_does_not_meet_what_fills_a_shorter_one(tokenizer):
    model = small_model("llama", vocab_size=300).eval()
    model.generation_config.repetition_penalty = 50.0
    together = generate.greedy_names(Reader(model, OPENING).read(PROMPTS), tokenizer, SETTINGS)
    alone = [generate.greedy_names(in_columns(model, [prompt]), tokenizer, SETTINGS)[0] for prompt in PROMPTS]
    assert together == alone


@pytest.mark.parametrize("steep", [1, 160], ids=["untrained", "trained"])
@pytest.mark.parametrize("top", [1, 5, 100])
def test_the_first_few_are_those_of_all_with_their_shares_and_no_more_is_read_than_needed(steep, top):
    model, sizes = small_model("llama", vocab_size=300).eval(), []

    def told_apart(_module, _args, outputs):
        """By their first tokens; what follows is as likely for all."""
        outputs.logits.mul_(steep)[..., [1, 20, 21]] += 3 * steep

    model.register_forward_hook(told_apart)
    candidates = [[first, second, 1] for first in range(30, 130) for second in (20, 21)]
    prepared, read = rank.prepare(candidates), Reader(model).read(PROMPTS[:1])
    model.register_forward_pre_hook(lambda *given: sizes.append(given[2]["input_ids"].numel()), with_kwargs=True)
    (whole,), (first,) = rank.score(read, prepared), rank.score(read, prepared, top=top)
    shares = [[math.exp(score) / sum(map(math.exp, scores)) for score in scores] for scores in (whole, first)]
    order = [sorted(range(200), key=lambda index, of=of: (-of[index], index))[:top] for of in (whole, first)]
    assert order[0] == order[1]
    assert shares[1] == pytest.approx(shares[0], abs=1e-4)
    if steep > 1 and top < 100:
        assert sum(sizes[1:]) < sizes[0] / 2
