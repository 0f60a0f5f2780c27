"""Memory and disk: what a base needs, what this machine has, and one clear error when either runs out."""

from __future__ import annotations

import errno
import gc
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from toolkit.core.errors import EnvironmentLacks
from toolkit.core.folder import unwritable
from toolkit.core.format import size
from toolkit.core.recipe import LoraSettings, Recipe, TrainingSettings

# Limits that a container puts on its memory, by control groups of version 2 and 1.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# cuBLAS and CUDA have words of their own.
NO_MEMORY = re.compile(r"(can't|cannot) allocate memory|out of memory|ALLOC_FAILED", re.IGNORECASE)
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
GO_ON = "Choose a smaller one with --base, use a machine with more, or try `pkt run demo`."


@dataclass(frozen=True, slots=True)
class Machine:
    """What computes.

    Attributes:
        gpu: Its name; None where the CPU computes.
        memory: Bytes of the GPU's memory, or of the machine's.
        compute: The torch dtype that it computes in (`compute_dtype`).
    """

    gpu: str | None
    memory: int
    compute: str


def this_machine() -> Machine:
    """The GPU where there is one, else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return Machine(None, main_memory(), compute_dtype())
    return Machine(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory, compute_dtype())


def compute_dtype() -> str:
    """The torch dtype to compute in: bf16 where the GPU has it natively, fp16 on older GPUs, fp32 on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float16"


def main_memory() -> int:
    """Bytes of memory that processes may take together: the machine's, or what its container allows."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [path.read_text(encoding="ascii").strip() for path in MEMORY_LIMITS if path.is_file()]
    return min(total, *(int(limit) for limit in limits if limit.isdigit()), total)


def free_disk(folder: Path) -> int:
    """Bytes that can still be written into a folder, which need not exist yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def matrix_flops() -> float:
    """Operations a second that the CPU reaches in float32 matrix products, measured in a fraction of a second."""
    import torch

    matrix = torch.ones(1024, 1024)
    torch.mm(matrix, matrix)
    started, products = time.perf_counter(), 3
    for _ in range(products):
        torch.mm(matrix, matrix)
    return products * 2 * 1024**3 / (time.perf_counter() - started)


def hardware() -> dict[str, Any]:
    """The device that computes, in words a reader knows."""
    import torch

    if torch.cuda.is_available():
        return {"device": "cuda", "name": torch.cuda.get_device_name(), "cores": os.cpu_count()}
    return {"device": "cpu", "name": _cpu_name(), "cores": os.cpu_count()}


def drawing_machine() -> dict[str, str]:
    """What decides which random numbers are drawn, beside the seed: only on the same are samples the same."""
    import torch

    return {"device": "cuda" if torch.cuda.is_available() else "cpu", "torch": torch.__version__.partition("+")[0]}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """Largest memory in use so far: of the GPU when there is one, else the process's resident set."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory inside the block, the machine's or the GPU's, into one clear error.

    Raises:
        EnvironmentLacks: In its place.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not lacks_memory(error):
            raise
        raise EnvironmentLacks(
            "There is not enough memory.",
            "Close other programs, hold the base in 4 bits (--quantization nf4), or choose a smaller one.",
        ) from error


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, the machine's or the GPU's.

    Beside its own class, torch raises plain RuntimeErrors: on a CPU, and from the libraries of a GPU.
    """
    known = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return known or NO_MEMORY.search(str(error)) is not None


def free_cache() -> None:
    """Give back memory that nothing holds any more."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


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


def check_disk(base: str, download: int, cache: Path) -> None:
    """See that a download fits into the cache.

    Raises:
        EnvironmentLacks: It does not.
    """
    free = free_disk(cache)
    if download > free:
        raise EnvironmentLacks(
            f"The base {base} takes {size(download)} to download, and {cache} has {size(free)} free.",
            "Free some space, set HF_HUB_CACHE to a folder with more, or choose a smaller one with --base.",
        )


def check_memory(base: str, shape: Shape, quantization: str, machine: Machine) -> None:
    """See that the base can be loaded.

    Raises:
        EnvironmentLacks: The whole memory of this machine is less than it needs.
    """
    needed = load_bytes(shape, quantization, machine.compute)
    if needed > machine.memory:
        how = "in NF4" if quantization == "nf4" else f"in {machine.compute}"
        raise EnvironmentLacks(
            f"The base {base} needs about {size(needed)} of memory {how}, and {_whose(machine)}.", GO_ON
        )


def check_training(base: str, shape: Shape, recipe: Recipe, machine: Machine, note: Callable[[str], None]) -> None:
    """See that the base can be trained by the recipe, and say what the user had better know before the download.

    Raises:
        EnvironmentLacks: Not even single rows of usual length fit into this machine's memory.
    """
    check_memory(base, shape, recipe.training.quantization, machine)
    least = least_to_train(shape, recipe, machine.compute)
    if least > machine.memory:
        raise EnvironmentLacks(
            f"The base {base} needs about {size(least)} of memory to be trained, and {_whose(machine)}.", GO_ON
        )
    if machine.gpu is None:
        time = time_on_a_cpu(shape, recipe, matrix_flops())
        note(f"There is no GPU: {time}. Faster are a GPU, a smaller --base, or `pkt run demo`.")


def least_to_train(shape: Shape, recipe: Recipe, compute: str) -> int:
    """Bytes that training takes when it goes over to single rows of usual length, and to checkpoints where it may."""
    checkpoints = "off" if recipe.training.gradient_checkpointing == "off" else "on"
    thrifty = {"micro_batch_size": 1, "gradient_checkpointing": checkpoints}
    return train_bytes(shape, recipe.lora, recipe.training.model_copy(update=thrifty), compute)


def time_on_a_cpu(shape: Shape, recipe: Recipe, flops: float) -> str:
    """How long training takes on a CPU of this speed, in words."""
    seconds, steps = step_seconds(shape, recipe.training, flops), recipe.training.max_steps
    whole = f", and {steps:,} take {_about(seconds * steps)}" if steps else ""
    return f"a step takes about {_about(seconds)} on this CPU{whole}"


def _about(seconds: float) -> str:
    """A duration no more exact than it is known: `40 s`, `28 min`, `1.9 h`, `62 days`."""
    if seconds < 0.1:
        return "0.1 s or less"
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 100)):
        if seconds < most * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 9.5 * length else f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _whose(machine: Machine) -> str:
    owner = f"the GPU {machine.gpu}" if machine.gpu else "this machine"
    return f"{owner} has {size(machine.memory)}"


@contextmanager
def full_disk_is_clear(folder: Path) -> Iterator[None]:
    """Name a full disk as such, which the libraries wrap in errors of their own.

    Raises:
        EnvironmentLacks: In the place of theirs; InputError where the folder can not be written.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from error
    except (RuntimeError, SafetensorError) as error:
        said = str(error)
        if "No space left" in said or "file write failed" in said or "PytorchStreamWriter failed" in said:
            raise unwritable(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise


# What the shipped recipes stand on, so that `pkt doctor` can say what they need without asking a Hub: sizes from the
# published configurations. The tests build the models without weights and count.
KNOWN = {
    "google/gemma-2b-it": _shape(2048, 16384, 18, 8, key_heads=1, head=256, vocabulary=256000),
    "google/gemma-3-1b-it": _shape(1152, 6912, 26, 4, key_heads=1, head=256, vocabulary=262144),
    "google/gemma-2-9b-it": _shape(3584, 14336, 42, 16, key_heads=8, head=256, vocabulary=256000, soft_capped=True),
    "K-intelligence/Midm-2.0-Mini-Instruct": _shape(1792, 4608, 48, 32, key_heads=8, head=128, vocabulary=131384),
}
GATED = {base for base in KNOWN if base.startswith("google/gemma")}
