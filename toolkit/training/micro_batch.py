"""What fits the memory: how many examples go through the model at once, and what happens when they do not fit.

The loss of a batch is divided by its supervised tokens as a whole, so its gradients are the same in pieces of any size.
A step that ran out of memory is taken again in smaller pieces: no step is lost and no checkpoint is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from toolkit.core.errors import EnvironmentLacks, InputError, first_line
from toolkit.core.recipe import TrainingSettings
from toolkit.model.chat import Example
from toolkit.model.loading import autocast
from toolkit.model.memory import free_cache, lacks_memory
from toolkit.training import packing

# On a CPU nothing is measured, because the same inputs must give the same bytes on every machine.
CPU_EXAMPLES, CPU_TOKENS = 4, 4096
# Share of a GPU's memory that may be in use: what is longer in training than in the probe needs the rest.
HEAD_ROOM = 0.9


class Fit:
    """How much of a batch goes through the model at once. It shrinks when the memory runs out.

    Attributes:
        micro_batch: Examples in one forward pass; divides the batch size.
        checkpointing: Whether activations are computed twice to save memory (gradient checkpointing).
    """

    def __init__(self, settings: TrainingSettings, longest: int, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.sizes = [size for size in range(1, settings.batch_size + 1) if settings.batch_size % size == 0]
        self.micro_batch = first_size(settings, longest, self.sizes)
        self.checkpointing = settings.gradient_checkpointing == "on"
        self.say = say

    def prepare(self, model: Any) -> None:
        """Switch gradient checkpointing on where it was asked for, and packing off where it is not exact.

        Raises:
            InputError: The base counts positions in a way of its own, or has no gradient checkpointing.
        """
        if not packing.counts_from_zero(model):
            raise InputError("The base counts the positions of tokens in a way of its own.", "Choose another base.")
        if self.checkpointing:
            switch_checkpointing_on(model)
        if len(self.sizes) > 1 and not packing.packs_exactly(model):
            self._one_at_a_time()

    def gradients(self, model: Any, batch: Sequence[Example], backward: Callable[[Any], None]) -> Any:
        """Add the gradients of a batch's mean loss, in nats a supervised token, and return the loss.

        Raises:
            EnvironmentLacks: Not even one example at a time fits.
        """
        drawn = _random_state()
        while True:
            loss = _gradients_in_pieces(model, batch, self.micro_batch, backward)
            if loss is not None:
                return loss
            _free(model)
            # As if it had not been tried: dropout draws the same numbers again.
            _set_random_state(drawn)
            self.shrink(model)

    def validation_loss(self, model: Any, examples: Sequence[Example]) -> float:
        """Mean loss of the examples, one at a time where the memory does not hold several."""
        if self.sizes == [1]:
            return packing.mean_loss(model, examples, at_once=1)
        try:
            return packing.mean_loss(model, examples)
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
        _free(model)
        return packing.mean_loss(model, examples, at_once=1)

    def shrink(self, model: Any) -> None:
        """Take the next smaller size; after one example, gradient checkpointing; after that, give up.

        Raises:
            EnvironmentLacks: There is nothing left to give.
        """
        if self.micro_batch > 1:
            before = self.micro_batch
            self.micro_batch = max(size for size in self.sizes if size <= before / 2)
            self.say(
                f"{before} examples at once did not fit the memory: {self.micro_batch} at once from here on, "
                "with the same result."
            )
        elif not self.checkpointing and self.settings.gradient_checkpointing == "auto":
            self.checkpointing = True
            switch_checkpointing_on(model)
            self.say("One example did not fit the memory: gradient checkpointing is on from here on.")
        else:
            remedy = "Lower --max-length or --lora-r, or choose a smaller base."
            if not self.checkpointing:
                remedy = "Give --gradient-checkpointing auto, or lower --max-length or --lora-r."
            elif self.settings.quantization == "none":
                remedy = "Give --quantization nf4, lower --max-length or --lora-r, or choose a smaller base."
            raise EnvironmentLacks("There is not enough memory for one example at a time.", remedy)

    def measure(self, model: Any, longest_first: Sequence[Example], compute: str) -> None:
        """On a GPU and for `auto`, find the largest size that the longest examples fit with head room."""
        import torch

        if self.settings.micro_batch_size == "auto" and torch.cuda.is_available():
            self.grow(lambda size: fits_with_room(model, longest_first[:size], compute))

    def check_packing(self, model: Any, longest_first: Sequence[Example], compute: str) -> None:
        """Switch packing off where the longest examples, as many as go through at once, are not computed as alone."""
        if self.micro_batch > 1 and not packing.packs_as_alone(model, longest_first[: self.micro_batch], compute):
            self._one_at_a_time()

    def _one_at_a_time(self) -> None:
        self.sizes, self.micro_batch = [1], 1
        self.say("The base does not keep packed sequences apart: one example goes through it at a time.")

    def grow(self, fits: Callable[[int], bool]) -> None:
        """Double the size for as long as it fits."""
        while larger := [size for size in self.sizes if size >= 2 * self.micro_batch]:
            if not fits(larger[0]):
                return
            self.micro_batch = larger[0]


def first_size(settings: TrainingSettings, longest: int, sizes: Sequence[int]) -> int:
    """The size to begin with: the recipe's; for `auto` one example on a GPU, and a fixed rule on a CPU.

    Args:
        settings: Of the training.
        longest: Tokens of the longest example.
        sizes: The divisors of the batch size.
    """
    import torch

    if settings.micro_batch_size != "auto":
        return settings.micro_batch_size
    if torch.cuda.is_available():
        return 1
    return max(size for size in sizes if size == 1 or (size <= CPU_EXAMPLES and size * longest <= CPU_TOKENS))


def fits_with_room(model: Any, examples: Sequence[Example], compute: str) -> bool:
    """Whether the gradients of these examples at once leave head room on the GPU, the optimiser counted."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    with torch.random.fork_rng(), autocast(compute):
        loss = _gradients_in_pieces(model, examples, len(examples), lambda loss: loss.backward())
    done = loss is not None
    _free(model)
    # AdamW holds two numbers of four bytes for each trainable one, from the first step on.
    moments = 8 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = torch.cuda.mem_get_info()[1]
    return done and torch.cuda.max_memory_reserved() + moments <= HEAD_ROOM * total


def _gradients_in_pieces(model: Any, batch: Sequence[Example], size: int, backward: Callable[[Any], None]) -> Any:
    supervised = sum(len(example.answer_ids) for example in batch)
    total: Any = 0.0
    try:
        for start in range(0, len(batch), size):
            inputs = packing.to_device(packing.collate(batch[start : start + size]), model.device)
            labels = inputs.pop("labels")
            loss = packing.answer_loss(model(**inputs), labels, supervised)
            backward(loss)
            total = total + loss.detach()
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        return None
    return total


def switch_checkpointing_on(model: Any) -> None:
    """Gradient checkpointing (Chen et al. 2016): a layer's activations are computed again in the backward pass.

    Raises:
        InputError: The base's family has none.
    """
    try:
        model.activation_checkpointing_enable()
    except ValueError as error:
        raise InputError(
            f"The base can not save memory by gradient checkpointing: {first_line(error)}",
            "Give --gradient-checkpointing off, or choose another base.",
        ) from error


def _free(model: Any) -> None:
    """Give back what a pass that failed, or was only tried, holds."""
    model.zero_grad(set_to_none=True)
    free_cache()


def _random_state() -> tuple[Any, Any]:
    import torch

    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _set_random_state(state: tuple[Any, Any]) -> None:
    import torch

    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
