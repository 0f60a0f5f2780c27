"""How many examples go through the model at once, and what to do when they do not fit into memory.

The loss of a batch is divided by its supervised tokens as a whole, so its gradients are the same in pieces of any size.
A step that runs out of memory is taken again in smaller pieces: no step is lost and no checkpoint is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from toolkit.core import Note
from toolkit.core.errors import EnvironmentLacks, library_errors
from toolkit.core.recipe import TrainingSettings
from toolkit.model.centroids import states
from toolkit.model.chat import Example
from toolkit.model.loading import autocast
from toolkit.model.memory import free_cache, halving, lacks_memory
from toolkit.model.trie import shared_nodes
from toolkit.training import packing
from toolkit.training.contrast import contrast_loss
from toolkit.training.lessons import Batch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Runs the backward pass of a loss: untyped in torch.
Backward = Callable[[Any], object]

# Most activations on a CPU, and nodes of a row, whose mask grows with their square. Nothing is measured there, because
# the same inputs must give the same bytes on every machine.
CPU_BYTES, CPU_NODES = 2_500_000_000, 4096
# Share of a GPU's memory that may be in use after the probe; training needs a little more than the probe does.
HEAD_ROOM = 0.9


class MicroBatch:
    """How much of a batch goes through the model at once; it shrinks when memory runs out.

    Attributes:
        size: Examples in one forward pass; divides the batch size.
        checkpointing: Whether activations are computed twice to save memory (gradient checkpointing).
    """

    def __init__(
        self, settings: TrainingSettings, lessons: Sequence[Sequence[Example]], token_bytes: int, note: Note
    ) -> None:
        self.settings = settings
        self.sizes = [size for size in range(1, settings.batch_size + 1) if settings.batch_size % size == 0]
        self.size = min(_first_size(settings, examples, token_bytes, self.sizes) for examples in lessons)
        self.checkpointing = settings.gradient_checkpointing == "on"
        self.note = note

    def prepare(self, model: PreTrainedModel) -> None:
        """Turn gradient checkpointing on where the settings ask for it, and packing off where it is not exact.

        Raises:
            InputError: The base has no gradient checkpointing.
        """
        if self.checkpointing:
            turn_checkpointing_on(model)
        if len(self.sizes) > 1 and not packing.packs_exactly(model):
            self._one_at_a_time()

    def gradients(
        self,
        model: PreTrainedModel,
        batches: Sequence[Batch],
        backward: Backward,
        proxies: torch.nn.Parameter | None = None,
    ) -> dict[str, torch.Tensor]:
        """Add the gradients of each batch's mean loss times its weight, and return the losses without their weights.

        Losses are in nats per supervised token of their own batch. With `proxies`, whose gradients begin anew, answers
        are contrasted, and `contrast_loss` is in nats per example.

        Raises:
            EnvironmentLacks: Not even one example at a time fits.
        """
        restore = _random_state()
        contrast = None if proxies is None else (self.settings.contrast, proxies)
        while (losses := _gradients_in_pieces(model, batches, self.size, backward, contrast)) is None:
            _free(model)
            # Dropout draws the same numbers in the next attempt.
            restore()
            self.shrink(model)
        return losses

    def validation_loss(self, model: PreTrainedModel, examples: Sequence[Example]) -> float:
        """Mean loss of the examples, fewer at once where memory does not hold several."""
        most = 1 if self.sizes == [1] else packing.VALIDATION_BATCH
        return halving(most, partial(packing.mean_loss, model, examples))[0]

    def shrink(self, model: PreTrainedModel) -> None:
        """Take the next smaller size; after one example, turn gradient checkpointing on; after that, give up.

        Raises:
            EnvironmentLacks: Nothing is left to reduce.
        """
        if self.size > 1:
            before = self.size
            self.size = max(size for size in self.sizes if size <= before / 2)
            self.note(
                f"{before} examples at once did not fit into memory: {self.size} at once from here on, "
                "with the same result."
            )
        elif not self.checkpointing and self.settings.gradient_checkpointing == "auto":
            self.checkpointing = True
            turn_checkpointing_on(model)
            self.note("One example did not fit into memory: gradient checkpointing is on from here on.")
        else:
            first = "Choose a smaller base"
            if not self.checkpointing:
                first = 'Give `training.gradient_checkpointing="auto"`'
            elif self.settings.quantization == "none":
                first = 'Give `training.quantization="nf4"`'
            raise EnvironmentLacks(
                "There is not enough memory for one example at a time.",
                f"{first}, or lower `training.max_length` or `lora.r`.",
            )

    def measure(self, model: PreTrainedModel, longest_first: Sequence[Sequence[Example]], compute: str) -> None:
        """On a GPU and for `auto`, double the size for as long as each lesson's longest examples fit with head room."""
        import torch

        if self.settings.micro_batch_size != "auto" or not torch.cuda.is_available():
            return
        while larger := [size for size in self.sizes if size >= 2 * self.size]:
            if not all(fits_with_room(model, examples[: larger[0]], compute) for examples in longest_first):
                return
            self.size = larger[0]

    def check_packing(self, model: PreTrainedModel, longest_first: Sequence[Sequence[Example]], compute: str) -> None:
        """Turn packing off where a lesson's longest examples and shortest, together, have other logits than alone."""
        for examples in longest_first:
            # One at a time too, several are validated at once.
            together = [*examples[: max(1, self.size - 1)], examples[-1]]
            if len(self.sizes) > 1 and not packing.packs_as_alone(model, together, compute):
                self._one_at_a_time()

    def _one_at_a_time(self) -> None:
        self.sizes, self.size = [1], 1
        self.note("The base does not keep packed sequences apart: one example goes through it at a time.")


def _first_size(settings: TrainingSettings, examples: Sequence[Example], token_bytes: int, sizes: Sequence[int]) -> int:
    """The recipe's size; for `auto` one example on a GPU, where it is measured next, and a fixed rule on a CPU.

    `token_bytes` is what a token keeps for the backward pass.
    """
    import torch

    if settings.micro_batch_size != "auto":
        return settings.micro_batch_size
    if torch.cuda.is_available():
        return 1
    sequences = [example.input_ids for example in examples]
    # What the first and the last in order share, all share.
    opening = shared_nodes(min(sequences), max(sequences))
    own = max(map(len, sequences)) - opening
    room = min(CPU_NODES, CPU_BYTES // token_bytes)
    return max(size for size in sizes if size == 1 or opening + size * own <= room)


def fits_with_room(model: PreTrainedModel, examples: Sequence[Example], compute: str) -> bool:
    """Whether the gradients of these examples at once, and the optimiser's state, leave head room on the GPU."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    with torch.random.fork_rng(), autocast(compute):
        whole = Batch("loss", 1.0, examples)
        fits = _gradients_in_pieces(model, [whole], len(examples), lambda loss: loss.backward()) is not None
    _free(model)
    # AdamW holds two numbers of four bytes for each trainable one, from the first step on.
    moments = 8 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = torch.cuda.mem_get_info()[1]
    return fits and torch.cuda.max_memory_reserved() + moments <= HEAD_ROOM * total


def _gradients_in_pieces(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    size: int,
    backward: Backward,
    contrast: tuple[float, torch.nn.Parameter] | None = None,
) -> dict[str, torch.Tensor] | None:
    """The losses of batches whose gradients were added, `size` examples at a time; None where memory ran out."""
    losses: dict[str, Any] = {}
    if contrast is not None:
        contrast[1].grad = None
    try:
        for batch in batches:
            supervised = sum(len(example.answer_ids) for example in batch.examples)
            for start in range(0, len(batch.examples), size):
                piece = batch.examples[start : start + size]
                inputs, answers = packing.collate(piece, model)
                with states(model if contrast else None) as seen:
                    logits = model(**inputs).logits
                loss = packing.answer_loss(logits, answers, supervised)
                losses[batch.column] = losses.get(batch.column, 0) + loss.detach()
                loss = batch.weight * loss
                if contrast and batch.labels:
                    weight, proxies = contrast
                    apart = contrast_loss(seen[0], piece, batch.labels[start : start + size], proxies)
                    apart = apart / len(batch.examples)
                    losses["contrast_loss"] = losses.get("contrast_loss", 0) + apart.detach()
                    loss = loss + weight * apart
                backward(loss)
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        return None
    return losses


def turn_checkpointing_on(model: PreTrainedModel) -> None:
    """Gradient checkpointing (Chen et al. 2016): compute a layer's activations again in the backward pass.

    Raises:
        InputError: The base's family has none.
    """
    remedy = 'Give `training.gradient_checkpointing="off"`, or choose another base.'
    with library_errors("The base cannot save memory by gradient checkpointing", remedy):
        model.activation_checkpointing_enable()


def _free(model: PreTrainedModel) -> None:
    """Release what a failed or trial pass holds."""
    model.zero_grad(set_to_none=True)
    free_cache()


def _random_state() -> Callable[[], None]:
    """A function that sets torch's random numbers back to where they are now."""
    import torch

    cpu, gpu = torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    def restore() -> None:
        torch.set_rng_state(cpu)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu)

    return restore
