"""Chat templates of the shapes that families of models have, with a small tokenizer for each.

The templates are written for these tests: what matters is where they put begin-of-text, roles, system turns, thoughts,
dates and ends of turns, not their words.
"""

from dataclasses import dataclass
from functools import cache

CHATML = """\
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

ALTERNATE = """\
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Roles must alternate') }}{% endif %}{% endfor %}"""

TURN = "'<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n'"

GEMMA = (
    "{{ bos_token }}"
    + ALTERNATE
    + "{% for m in messages %}{{ "
    + TURN
    + " + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

GEMMA_3 = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\\n\\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{{ "
    + TURN
    + " + (first if loop.first else '') + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

# The generation prompt closes a thought that finished turns do not show.
GEMMA_4 = """\
{{- bos_token }}{% for m in messages %}
{{- '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content | trim + '<turn|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|turn>model\\n' }}{% if not enable_thinking | default(false) %}
{{- '<|channel>thought\\n<channel|>' }}{% endif %}{% endif %}"""

QWEN_2 = (
    """\
{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou name things.<|im_end|>\\n' }}{% endif %}
"""
    + CHATML
)

# The last answer gets an empty thought, the generation prompt only when thinking is switched off.
QWEN_3 = """\
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{{- m.content.lstrip('\\n') + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""

# No switch: always opens a thought, which finished answers show closed.
THINKING_ONLY = """\
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{{- m.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}
"""

LLAMA_3 = """\
{{- bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}
{%- set system = 'Today Date: ' + date_string + '\\n\\n' %}
{%- if messages[0].role == 'system' %}{% set system = system + messages[0].content %}
{%- set messages = messages[1:] %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + system + '<|eot_id|>' }}
{%- for m in messages %}
{{- '<|start_header_id|>' + m.role | lower + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

# The end of the user's turn is the generation prompt.
MISTRAL = """\
{{- bos_token }}{% if messages[0].role == 'system' %}{{ '[SYSTEM_PROMPT]' + messages[0].content + '[/SYSTEM_PROMPT]' }}
{%- set messages = messages[1:] %}{% endif %}{% for m in messages %}
{{- '[INST]' + m.content + '[/INST]' if m.role == 'user' else m.content + eos_token }}{% endfor %}"""

# The marks are plain text, and blanks stand around each text.
LLAMA_2 = (
    ALTERNATE
    + "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content | trim + ' [/INST]' }}"
    + "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)

PHI_3 = """\
{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

EXAONE = """\
{%- for m in messages %}{{ '[|' + m.role + '|]\\n' }}
{%- if m.role == 'assistant' %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{{- m.content + '[|endofturn|]\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '[|assistant|]\\n<think>\\n' }}
{%- if enable_thinking is not defined or not enable_thinking %}{{ '\\n</think>\\n\\n' }}{% endif %}{% endif %}"""

# The generation prompt stops before the line break, after which it could also think.
HYPERCLOVAX = CHATML.replace("assistant\\n' }}{% endif %}", "assistant' }}{% endif %}")

COHERE = """\
{{- bos_token }}{% for m in messages %}{{ '<|START|>' + {'assistant': '<|BOT|>', 'user': '<|USER|>',
'system': '<|SYSTEM|>'}[m.role] + m.content | trim + '<|END|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|START|><|BOT|>' }}{% endif %}"""

# Text before the answer that no switch moves into the generation prompt.
RESPONSE = """\
{%- for m in messages %}{{ '<|START|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{{ '<|RESPONSE|>' }}{% endif %}
{{- m.content + '<|END|>' }}{% endfor %}{{ '<|START|>assistant\\n' if add_generation_prompt else '' }}
"""

OLMO = """\
{{- bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}
{{- eos_token if m.role == 'assistant' }}{{ '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

GRANITE = """\
{%- if messages[0].role != 'system' %}{{ '<|role|>system<|/role|>Today is ' + strftime_now("%B %d, %Y") + '.<eos>\\n' }}
{%- endif %}{% for m in messages %}{{ '<|role|>' + m.role + '<|/role|>' + m.content + '<eos>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|role|>assistant<|/role|>' }}{% endif %}"""


@dataclass(frozen=True, eq=False)
class Family:
    """A template with what its tokenizer has.

    Attributes:
        template: The chat template.
        tokens: Special tokens.
        plain_tokens: Added tokens that are not special.
        names: Which of them is bos, eos and pad; there may be none.
        answer: What is supervised for the answer "Vulpix", with its end of turn.
        adds_bos: Whether plain text begins with bos.
        has_system: Whether the template takes a system turn.
        sentencepiece: Blanks are part of the following word, as SentencePiece has it; byte level otherwise.
        settled: Whether the template has to be changed for training.
        closing: What ends the generation prompt, but is not there in a finished turn.
    """

    template: str
    tokens: tuple[str, ...]
    names: dict[str, str]
    answer: str
    plain_tokens: tuple[str, ...] = ()
    adds_bos: bool = False
    has_system: bool = True
    sentencepiece: bool = False
    settled: bool = False
    closing: str = ""


IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
IM_NAMES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
GEMMA_NAMES = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
S_NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
THINK = ("<think>", "</think>")

FAMILIES = {
    "gemma": Family(
        GEMMA, GEMMA_TOKENS, GEMMA_NAMES, "Vulpix<end_of_turn>", ("\n\n", "  "), adds_bos=True, has_system=False
    ),
    "gemma3": Family(GEMMA_3, GEMMA_TOKENS, GEMMA_NAMES, "Vulpix<end_of_turn>", ("\n\n", "  "), adds_bos=True),
    "gemma4": Family(
        GEMMA_4,
        ("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>"),
        GEMMA_NAMES,
        "Vulpix<turn|>",
        adds_bos=True,
        closing="<|channel>thought\n<channel|>",
    ),
    "qwen2": Family(QWEN_2, IM, IM_NAMES, "Vulpix<|im_end|>"),
    "qwen3": Family(QWEN_3, IM, IM_NAMES, "Vulpix<|im_end|>", THINK, settled=True),
    "thinking-only": Family(THINKING_ONLY, IM, IM_NAMES, "Vulpix<|im_end|>", THINK, settled=True),
    "llama3": Family(
        LLAMA_3,
        ("<|begin|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        {"bos_token": "<|begin|>", "eos_token": "<|eot_id|>"},
        "Vulpix<|eot_id|>",
        adds_bos=True,
        settled=True,
    ),
    "llama2": Family(
        LLAMA_2, ("<s>", "</s>"), S_NAMES, "Vulpix </s>", adds_bos=True, has_system=False, sentencepiece=True
    ),
    "mistral": Family(
        MISTRAL,
        ("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        S_NAMES,
        "Vulpix</s>",
        adds_bos=True,
    ),
    "phi3": Family(
        PHI_3,
        ("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        "Vulpix<|end|>",
    ),
    "exaone": Family(
        EXAONE,
        ("[BOS]", "[PAD]"),
        {"bos_token": "[BOS]", "eos_token": "[|endofturn|]", "pad_token": "[PAD]"},
        "Vulpix[|endofturn|]",
        ("[|system|]", "[|user|]", "[|assistant|]", *THINK),
    ),
    # The end of turn is an added token, but no special one, and not the end of text.
    "exaone-plain-end": Family(
        EXAONE,
        ("[BOS]", "[EOS]"),
        {"bos_token": "[BOS]", "eos_token": "[EOS]", "pad_token": "[EOS]"},
        "Vulpix[|endofturn|]",
        ("[|user|]", "[|assistant|]", "[|endofturn|]"),
    ),
    "smollm2": Family(
        CHATML,
        IM,
        {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
        "Vulpix<|im_end|>",
    ),
    "hyperclovax": Family(HYPERCLOVAX, IM, IM_NAMES, "\nVulpix<|im_end|>"),
    "cohere": Family(
        COHERE,
        ("<bos>", "<pad>", "<|START|>", "<|END|>", "<|BOT|>", "<|USER|>", "<|SYSTEM|>"),
        {"bos_token": "<bos>", "eos_token": "<|END|>", "pad_token": "<pad>"},
        "Vulpix<|END|>",
        adds_bos=True,
    ),
    "response": Family(
        RESPONSE,
        ("<|START|>", "<|RESPONSE|>", "<|END|>"),
        {"eos_token": "<|END|>"},
        "Vulpix<|END|>",
        settled=True,
    ),
    # One token begins texts, ends answers and pads.
    "olmo": Family(
        OLMO,
        ("<|endoftext|>",),
        dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>"),
        "Vulpix<|endoftext|>",
    ),
    "granite": Family(GRANITE, ("<eos>", "<|role|>", "<|/role|>"), {"eos_token": "<eos>"}, "Vulpix<eos>", settled=True),
}

TEXTS = [
    "A small red fox with six tails sits beside a pond. Vulpix Bulbasaur Pikachu Ninetales",
    "다음 특성을 살린 포켓몬식 이름을 지어줘: 식스테일 이상해씨",
    "user assistant system model think thought [INST] [/INST]" + "\n\n\n." * 9,
]


@cache
def _trained(family):
    """The tokenizer of a family, to be copied."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    if family.sentencepiece:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        bpe.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = sorted(set("".join(TEXTS)) | {chr(code) for code in range(32, 127)})
    else:
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(family.tokens), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.add_tokens([AddedToken(text, normalized=False) for text in family.plain_tokens])
    if family.adds_bos:
        bos = family.names["bos_token"]
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, bpe.token_to_id(bos))]
        )
    others = [token for token in family.tokens if token not in family.names.values()]
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **family.names, additional_special_tokens=others)


def family_tokenizer(family, template=None):
    """A tokenizer of the family's own, with its template or another."""
    import copy

    tokenizer = copy.deepcopy(_trained(family))
    tokenizer.chat_template = template or family.template
    return tokenizer
