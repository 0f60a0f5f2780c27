"""What `inspect_adapter` says of adapters, sound and broken ones, ours and others'."""

import re
import shutil

import pytest
from safetensors.torch import load_file, save_file

from support.adapters import make_adapter, put_on, scale
from toolkit.cards import vllm
from toolkit.core.errors import InputError
from toolkit.core.folder import read_json, write_json
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, TINY_BASE_ID
from toolkit.model.adapter import load_adapter
from toolkit.model.inspect import inspect_adapter

PROJECTIONS = ["q_proj", "v_proj"]
pytestmark = pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:Setting `save_embedding_layers`")


@pytest.fixture
def ours(tmp_path, small_base, use_small_base):
    return make_adapter(tmp_path / "ours", small_base)


@pytest.fixture
def foreign(tmp_path, small_base, use_small_base):
    """A function: an adapter with settings of peft, as another trainer saves it, without a tokenizer."""

    def make(**settings):
        folder = put_on(tmp_path / "foreign", small_base, **{"target_modules": PROJECTIONS, **settings})
        for file in folder.iterdir():
            if file.name not in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                file.unlink()
        return folder

    return make


def configure(folder, **settings):
    write_json(folder / ADAPTER_CONFIG, read_json(folder / ADAPTER_CONFIG) | settings)


def rename(folder, old, new):
    weights = load_file(folder / ADAPTER_WEIGHTS)
    save_file({re.sub(old, new, name): tensor for name, tensor in weights.items()}, folder / ADAPTER_WEIGHTS)


def facts(report, section):
    assert report.sections[section].unknown is None, report.sections[section]
    return report.sections[section].facts


def uses(report):
    return {use.tool.split()[-1] if use.tool[:3] == "pkt" else use.tool.split()[0]: use for use in report.uses}


def test_our_own_adapter_is_sound_and_stands_on_the_base_that_it_names(ours):
    report = inspect_adapter(ours)
    assert report.ok, report.problems
    assert facts(report, "base")["as_trained_on"] is True
    assert facts(report, "tokenizer") | {"own": True, "as_the_base": True} == facts(report, "tokenizer")
    assert facts(report, "template")["from"] == "base"
    assert facts(report, "fit")["complete"] is True
    change = facts(report, "change")
    assert 0 < change["moved_share_of_first_token"] <= 1
    assert {name: use.works for name, use in uses(report).items()} == dict.fromkeys(
        ("peft", "evaluate", "merge", "vLLM"), True
    )


def test_the_change_is_the_total_variation_of_the_next_token(ours, small_base):
    """Against a plain computation with transformers and peft."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from toolkit.model import chat
    from toolkit.model.merge import DESCRIPTIONS

    base, tokenizer = AutoModelForCausalLM.from_pretrained(small_base), AutoTokenizer.from_pretrained(small_base)
    how = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
    prompts = [tokenizer.apply_chat_template(chat.naming_messages(text), **how) for text in DESCRIPTIONS]
    with torch.no_grad():
        before = [base(**prompt).logits[0, -1].softmax(-1) for prompt in prompts]
        model = PeftModel.from_pretrained(base, ours).eval()
        after = [model(**prompt).logits[0, -1].softmax(-1) for prompt in prompts]
    moved = sum(float((one - other).abs().sum() / 2) for one, other in zip(before, after, strict=True)) / len(prompts)
    assert facts(inspect_adapter(ours), "change")["moved_share_of_first_token"] == pytest.approx(moved, abs=1e-5)


def test_an_adapter_of_peft_alone_is_asked_with_its_bases_tokenizer(foreign):
    folder = foreign(use_rslora=True, lora_alpha=8)
    # The tiny base of any version bears any revision.
    configure(folder, revision="a" * 40)
    report = inspect_adapter(folder)
    assert report.ok, report.problems
    found = facts(report, "adapter")
    assert {"r": 2, "lora_alpha": 8, "use_rslora": True, "trained_by_pkt": None}.items() <= found.items()
    assert not {"use_dora", "bias"} & found.keys()
    assert facts(report, "tokenizer")["own"] is False
    assert facts(report, "base")["as_trained_on"] is None
    assert facts(report, "change")["questions"] == 4
    assert report.sections["card"].unknown


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: rename(folder, "^", "_orig_mod."), "_orig_mod."),
        (lambda folder: rename(folder, r"layers\.0", "layers.7"), "layers.7"),
        (lambda folder: configure(folder, r=3), "[2, 64] in the file"),
        (lambda folder: configure(folder, target_modules=["nothing_like_it"]), "nothing_like_it"),
        (lambda folder: scale(folder, 0), "changes nothing"),
        (lambda folder: scale(folder, float("nan")), "NaN"),
        (lambda folder: (folder / ADAPTER_WEIGHTS).write_bytes(b"\0" * 40), "cannot be read"),
        (lambda folder: (folder / ADAPTER_WEIGHTS).unlink(), f"no {ADAPTER_WEIGHTS}"),
        (lambda folder: configure(folder, peft_type=["LORA"]), "peft_type"),
        (lambda folder: (folder / ADAPTER_CONFIG).write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer"),
    ],
)
def test_what_is_broken_is_said_and_the_rest_is_shown_all_the_same(ours, spoil, said):
    spoil(ours)
    report = inspect_adapter(ours)
    assert not report.ok
    assert said in " ".join(report.problems)
    assert list(report.sections) == [
        "adapter", "tensors", "base", "tokenizer", "template", "fit", "change", "card",
    ]  # fmt: skip
    assert uses(report)["evaluate"].works is False
    assert uses(report)["peft"].works is False
    with pytest.raises(InputError):
        load_adapter(ours)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "NEWER"}, "does not know"),
        ({"use_wonder": True}, "use_wonder"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
    ],
)
def test_what_only_pkt_cannot_ask_is_not_broken(ours, settings, said):
    configure(ours, **settings)
    report = inspect_adapter(ours)
    assert report.ok, report.problems
    assert said in " ".join(uses(report)["evaluate"].why)
    assert uses(report)["evaluate"].works is False
    assert uses(report)["peft"].works is None
    with pytest.raises(InputError, match=said):
        load_adapter(ours)


def test_a_pickle_is_not_read(ours):
    (ours / ADAPTER_WEIGHTS).rename(ours / "adapter_model.bin")
    report = inspect_adapter(ours)
    assert report.ok
    assert "pickle" in report.sections["tensors"].unknown
    assert "pickle" in uses(report)["evaluate"].why[0]


def test_another_base_under_the_same_name_is_found_by_its_content(ours):
    manifest = read_json(ours / MANIFEST)
    write_json(ours / MANIFEST, manifest | {"base": {"content": "0" * 64}})
    report = inspect_adapter(ours)
    assert facts(report, "base")["as_trained_on"] is False
    assert "not the one that it was trained on" in report.problems[0]


def test_a_base_that_is_nowhere_is_said_and_breaks_nothing(foreign):
    folder = foreign()
    configure(folder, base_model_name_or_path="/data/models/tiny-gemma", revision=None)
    report = inspect_adapter(folder)
    assert report.ok
    assert "/data/models/tiny-gemma" in report.sections["base"].notes[-1]
    assert "a path of one machine" in report.sections["base"].notes[0]
    assert report.sections["fit"].unknown
    assert report.sections["change"].unknown
    assert facts(report, "adapter")["r"] == 2
    assert {name: use.works for name, use in uses(report).items()} == {
        "peft": None, "evaluate": None, "merge": None, "vLLM": True,
    }  # fmt: skip
    assert inspect_adapter(folder, base=TINY_BASE_ID).sections["change"].unknown is None


def test_without_weights_the_base_is_compared_but_not_loaded(ours, monkeypatch):
    from toolkit.model import loading

    monkeypatch.setattr(loading, "load_base", lambda *_: pytest.fail("the base was loaded"))
    report = inspect_adapter(ours, weights=False)
    assert report.ok
    assert facts(report, "fit")["complete"] is True
    assert "not to be loaded" in report.sections["change"].unknown
    assert uses(report)["evaluate"].works is None


def test_added_tokens_and_another_end_are_named(foreign, small_base):
    from transformers import AutoTokenizer

    folder = foreign()
    tokenizer = AutoTokenizer.from_pretrained(small_base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.chat_template = (
        "<bos>{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    report = inspect_adapter(folder)
    found, template = report.sections["tokenizer"], report.sections["template"]
    assert found.facts["added"] == ["<|im_start|>", "<|im_end|>"]
    said = " ".join((*found.notes, *template.notes))
    assert "eos_token is <|im_end|>, and the base's is <eos>" in said
    assert "2 tokens more than the base has embeddings for" in said
    assert "Padding is the end of text" in said
    assert "begins with <bos> already: tokenised once more, it has 2" in said
    assert template.facts == {"from": "adapter", "ends_an_answer": "<|im_end|>"}
    assert "added tokens" in uses(report)["vLLM"].why[0]


def test_a_card_that_claims_something_else_is_contradicted(ours):
    card = "base_model: google/gemma-9b\nlibrary_name: transformers\ndatasets: [else/where]\nlicense: mit"
    (ours / "README.md").write_text(f"---\n{card}\n---\n")
    write_json(ours / MANIFEST, read_json(ours / MANIFEST) | {"dataset": {"id": "owner/creatures"}})
    report = inspect_adapter(ours, weights=False)
    assert report.ok
    assert facts(report, "card")["base_model"] == "google/gemma-9b"
    notes = " ".join(report.sections["card"].notes)
    for claim in ("google/gemma-9b", "transformers", "else/where", TINY_BASE_ID, "owner/creatures"):
        assert claim in notes
    (ours / "README.md").write_text("---\n[\n---\n")
    assert "cannot be read" in inspect_adapter(ours, weights=False).sections["card"].unknown


LORA = {"peft_type": "LORA", "r": 16, "lora_alpha": 32, "target_modules": ["q_proj"], "bias": "none"}
TENSORS = [f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight" for side in "AB"]


@pytest.mark.parametrize(
    ("settings", "tensors", "serves", "said"),
    [
        ({}, [], True, ""),
        ({"use_rslora": True, "init_lora_weights": "gaussian", "modules_to_save": ["score"]}, [], True, ""),
        ({"r": 40}, [], True, "max_lora_rank=64"),
        ({"r": 8, "rank_pattern": {"q_proj": 200}}, [], True, "max_lora_rank=256"),
        ({"r": 513}, [], False, "513"),
        ({"use_dora": True}, [], False, "DoRA"),
        ({"use_qalora": True}, [], False, "QALoRA"),
        ({"bias": "lora_only"}, [], False, "bias"),
        ({"lora_bias": True}, [], False, "bias"),
        ({"modules_to_save": ["embed_tokens", "score"]}, [], False, "embed_tokens"),
        ({"init_lora_weights": "pissa_niter_4"}, [], False, "pissa_niter_4"),
        ({"peft_type": "LOHA"}, [], False, "LOHA"),
        ({}, ["base_model.model.lm_head.lora_A.weight"], True, "some model families"),
        ({}, ["base_model.model.model.embed_tokens.base_layer.weight"], True, "ignores"),
        ({}, ["base_model.model.model.embed_tokens.weight"], False, "embed_tokens.weight"),
        ({}, ["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"], False, "trainable_tokens"),
    ],
)
def test_what_vllm_serves_follows_from_the_settings(settings, tensors, serves, said):
    against, care = vllm.can_serve(LORA | settings, [*TENSORS, *tensors])
    assert (not against, bool(against or care)) == (serves, bool(said))
    assert said in " ".join(against or care)


def test_an_adapter_of_the_hub_is_named_with_its_commit(tmp_path, ours, monkeypatch):
    commit = "a" * 40
    cached = tmp_path / "models--a--b" / "snapshots" / commit
    shutil.copytree(ours, cached)
    assert inspect_adapter(cached, weights=False).sections["adapter"].facts["revision"] == commit
