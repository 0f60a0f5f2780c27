"""What a base will take: memory to load and to train it, time on a CPU. Pure: numbers in, numbers out.

Everything here is an estimate from a base's shape, made before a byte of it is on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from toolkit.core.recipe import LoraSettings, TrainingSettings

# NF4 with double quantisation (Dettmers et al. 2023, section 3): 4 bits, 8 for each 64 weights, 32 for each 64 x 256.
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}
# Bytes kept for the backward pass, for each token and layer: for each unit of the hidden size, of the feed-forward
# size, of the queries and of the keys. Counted with torch's saved-tensor hooks on Gemma 3 with LoRA and dropout on all
# seven projections, in float32 and in mixed precision; Gemma and Llama keep up to a fifth less.
KEPT = {4: (56.1, 20.0, 20.1, 12.1), 2: (46.9, 12.4, 14.4, 8.3)}
# Counted in the same way: what soft-capped attention (Gemma 2) keeps for each head and each pair of tokens of a row.
KEPT_A_PAIR = 8
# A row of the embedded corpus has 60 to 140 tokens in Gemma's vocabulary, of which 3 to 8 are its answer.
TYPICAL_TOKENS, ANSWER_TOKENS = 130, 8
# Python, torch and the libraries, before a base is loaded; on a GPU, what CUDA takes for itself.
PROCESS_BYTES = 600_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how large a base is: its sizes, and its parameters by how they are held.

    Attributes:
        hidden: Size of the hidden states; `feed_forward`, `queries` and `keys` are those of the projections.
        linear: Parameters of the projections, which NF4 quantises.
        embedding: Parameters of the embeddings and the head, which it does not.
        soft_capped: Whether attention scores are capped, which keeps a score for each pair of tokens.
    """

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    linear: int
    embedding: int
    soft_capped: bool

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.linear + self.embedding


def shape_of(config: Mapping[str, Any], parameters: int | None = None) -> Shape | None:
    """The shape that a `config.json` describes; None for one that does not say it, such as a state-space model's.

    Args:
        config: What `config.json` holds; of a model that also sees, the part about text.
        parameters: All parameters where the Hub states them: experts and towers beside the text are in there.
    """
    text = config["text_config"] if isinstance(config.get("text_config"), Mapping) else config
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    values = [text.get(name) for name in names]
    if not all(isinstance(value, int) and value > 0 for value in values):
        return None
    hidden, feed_forward, layers, heads, vocabulary = (int(value) for value in values if value is not None)
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    if tied is None:
        # Gemma's configurations leave it out: it is that family's default, and no other's.
        tied = str(text.get("model_type", "")).startswith("gemma")
    shape = _shape(
        hidden,
        feed_forward,
        layers,
        heads,
        key_heads=text.get("num_key_value_heads") or heads,
        head=text.get("head_dim") or hidden // heads,
        vocabulary=vocabulary,
        tied=bool(tied),
        soft_capped=bool(text.get("attn_logit_softcapping")),
    )
    return replace(shape, linear=max(shape.linear, (parameters or 0) - shape.embedding))


def _shape(
    hidden: int,
    feed_forward: int,
    layers: int,
    heads: int,
    *,
    key_heads: int,
    head: int,
    vocabulary: int,
    tied: bool = True,
    soft_capped: bool = False,
) -> Shape:
    queries, keys = heads * head, key_heads * head
    linear = layers * (2 * hidden * queries + 2 * hidden * keys + 3 * hidden * feed_forward)
    embedding = vocabulary * hidden * (1 if tied else 2)
    return Shape(hidden, feed_forward, layers, heads, queries, keys, vocabulary, linear, embedding, soft_capped)


def load_bytes(shape: Shape, quantization: str, compute: str) -> int:
    """Memory that holds the base, the process around it included: projections in NF4, the rest as it computes."""
    held = NF4_BYTES if quantization == "nf4" else WIDTH[compute]
    return round(PROCESS_BYTES + shape.linear * held + shape.embedding * WIDTH[compute])


def train_bytes(
    shape: Shape, lora: LoraSettings, training: TrainingSettings, compute: str, row_tokens: int = TYPICAL_TOKENS
) -> int:
    """Memory of a training step at its peak: base, adapter and optimiser, what the backward pass needs, and the logits.

    base + LoRA x (weight 4, gradient 4, optimiser 8 or 2 bytes) + tokens x layers x `KEPT`
    + answers x vocabulary x 4 x 2 + the largest projection twice, unpacked from NF4.

    The logits are there twice where the family scales or caps them; their gradient takes their place.

    Args:
        shape: Of the base.
        lora: Ranks and places of the adapter.
        training: Settings; a micro-batch size that is to be found counts as 1.
        compute: A torch dtype's name.
        row_tokens: Tokens of a row; `training.max_length` gives the most that a run may take.
    """
    rows = micro_batch(training)
    # What is not quantised is held in float32 while a quantised base is trained (`prepare_model_for_kbit_training`).
    embedding = 4 if training.quantization == "nf4" else WIDTH[compute]
    held = load_bytes(shape, training.quantization, compute) + shape.embedding * (embedding - WIDTH[compute])
    optimizer = 2 if training.optimizer == "paged_adamw_8bit" else 8
    adapter = lora_parameters(shape, lora) * (8 + optimizer)
    logits = rows * min(row_tokens, ANSWER_TOKENS) * shape.vocabulary * 4 * 2
    unpacked = 2 * shape.hidden * max(shape.feed_forward, shape.queries) * WIDTH[compute]
    return round(held + adapter + logits + unpacked + _kept_bytes(shape, training, compute, rows * row_tokens))


def micro_batch(training: TrainingSettings) -> int:
    """Rows of one forward pass; 1 where the training is to find it."""
    return 1 if training.micro_batch_size == "auto" else training.micro_batch_size


def _kept_bytes(shape: Shape, training: TrainingSettings, compute: str, tokens: int) -> float:
    """What the backward pass of one packed row needs; with checkpoints, all layers' inputs and one layer whole."""
    a_hidden, a_forward, a_query, a_key = KEPT[WIDTH[compute]]
    sizes = a_hidden * shape.hidden + a_forward * shape.feed_forward + a_query * shape.queries + a_key * shape.keys
    layer = tokens * sizes + (KEPT_A_PAIR * shape.heads * tokens**2 if shape.soft_capped else 0)
    # "auto" is counted like "off": it goes over to checkpoints only where these bytes are not there.
    if training.gradient_checkpointing == "on":
        return layer + shape.layers * tokens * shape.hidden * 4
    return shape.layers * layer


def lora_parameters(shape: Shape, lora: LoraSettings) -> int:
    """Parameters of the adapter: rank x (inputs + outputs) of every target module that is known here."""
    sizes = {
        "q_proj": shape.hidden + shape.queries,
        "k_proj": shape.hidden + shape.keys,
        "v_proj": shape.hidden + shape.keys,
        "o_proj": shape.queries + shape.hidden,
        "gate_proj": shape.hidden + shape.feed_forward,
        "up_proj": shape.hidden + shape.feed_forward,
        "down_proj": shape.feed_forward + shape.hidden,
    }
    return shape.layers * lora.r * sum(sizes.get(name, 0) for name in lora.target_modules)


def step_seconds(shape: Shape, training: TrainingSettings, flops: float, row_tokens: int = TYPICAL_TOKENS) -> float:
    """Seconds of an optimiser step on a CPU that multiplies matrices at `flops` operations a second.

    4 operations for each token and frozen weight: 2 forward, 2 for the gradient of its input, none for its own.
    Twice that, because unpacking NF4, the adapter and attention took nearly as long again where it was measured.
    """
    return 2 * 4 * shape.linear * training.batch_size * row_tokens / flops


def gigabytes(count: float) -> str:
    """Bytes as a person reads them: `5.0 GB`, `12 GB`, `310 MB`. Decimal, as the Hub counts."""
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 9.95e9 else f"{count / 1e9:.0f} GB"


# What the shipped recipes stand on, so that `pkt doctor` can say what they need without asking a Hub: sizes from the
# published configurations. The tests build the models without weights and count.
KNOWN = {
    "google/gemma-2b-it": _shape(2048, 16384, 18, 8, key_heads=1, head=256, vocabulary=256000),
    "google/gemma-3-1b-it": _shape(1152, 6912, 26, 4, key_heads=1, head=256, vocabulary=262144),
    "google/gemma-2-9b-it": _shape(3584, 14336, 42, 16, key_heads=8, head=256, vocabulary=256000, soft_capped=True),
    "K-intelligence/Midm-2.0-Mini-Instruct": _shape(1792, 4608, 48, 32, key_heads=8, head=128, vocabulary=131384),
}
GATED = {base for base in KNOWN if base.startswith("google/gemma")}
