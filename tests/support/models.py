"""What tests share: models."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

WINDOWED = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}

SCALED = {
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.3,
    "logits_scaling": 2.0,
}

# With what each family has beyond the plain decoder switched on: logits capped or scaled, a window shorter than the
# packed row and than the longest sequence in it, layers without positions, embeddings a layer.
FAMILIES = {
    "gemma": {},
    "gemma2": {**WINDOWED, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 2.0},
    "gemma3_text": {**WINDOWED, "final_logit_softcapping": 2.0},
    "gemma4_text": {
        **WINDOWED,
        "final_logit_softcapping": 2.0,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 300,
        # As initialised by default, its gradients are so steep that rounding alone exceeds 1e-5.
        "initializer_range": 0.2,
    },
    "qwen2": {**WINDOWED, "use_sliding_window": True},
    "qwen3": {**WINDOWED, "use_sliding_window": True},
    "llama": {},
    "mistral": {"sliding_window": 8},
    "phi3": {"sliding_window": 8, "pad_token_id": 0},
    "exaone4": WINDOWED,
    "smollm3": {**WINDOWED, "use_sliding_window": True, "no_rope_layers": [1, 0], "pad_token_id": 0},
    "olmo3": {**WINDOWED, "pad_token_id": 0},
    "granite": SCALED,
    "cohere": {"logit_scale": 0.5, "pad_token_id": 0},
    "hyperclovax": SCALED,
    "glm4": {"pad_token_id": 0},
}

SMALL = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 128,
}


def small_model(family, **settings):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**SMALL | settings)
    return AutoModelForCausalLM.from_config(config)


def family_model(family):
    return small_model(family, vocab_size=300, **FAMILIES[family])


def untied(base, folder):
    """A copy of a base whose head is a matrix of its own."""
    loaded = AutoModelForCausalLM.from_pretrained(base)
    loaded.config.tie_word_embeddings = False
    loaded.lm_head.weight = torch.nn.Parameter(loaded.lm_head.weight.detach().clone() * 1.5)
    loaded.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder
