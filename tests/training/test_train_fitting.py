"""Training fits the machine: pieces that the memory holds, numbers that the precision holds, no step on nonsense."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from support.models import small_model
from support.training import adapter_bytes, recipe, write_dataset
from toolkit.core.errors import EnvironmentLacks, InputError, ToolkitError
from toolkit.core.folder import read_json, read_jsonl
from toolkit.core.layout import TINY_BASE_ID
from toolkit.core.recipe import load_recipe
from toolkit.model import adapter as adapters
from toolkit.model import chat, loading
from toolkit.training import lessons, micro_batch, packing, train


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "dataset")


def settings(**overrides):
    plain = {"training.augmentation": 0.0, "training.contrast": 0.0}
    return load_recipe("demo", plain | {f"training.{key}": value for key, value in overrides.items()}).training


def holding(monkeypatch, most: int, *, with_checkpointing: int | None = None):
    """Let a training run out of memory where more examples than `most` go through the model at once."""
    collate = packing.collate
    checkpointing = []
    switch = micro_batch.turn_checkpointing_on
    monkeypatch.setattr(micro_batch, "turn_checkpointing_on", lambda m: (checkpointing.append(1), switch(m)))

    def collate_or_fail(batch, model):
        room = with_checkpointing if checkpointing and with_checkpointing is not None else most
        if torch.is_grad_enabled() and len(batch) > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return collate(batch, model)

    monkeypatch.setattr(packing, "collate", collate_or_fail)


# The pieces.


def test_micro_batches_train_the_same_adapter_as_whole_batches(tmp_path, dataset, use_small_base):
    weights = []
    for micro in (4, 1):
        chosen = recipe(use_small_base, training__micro_batch_size=micro, lora__dropout=0.0)
        train.train(dataset, tmp_path / str(micro), chosen)
        weights.append(load_file(tmp_path / str(micro) / "adapter_model.safetensors"))
    for name, whole in weights[0].items():
        assert (whole - weights[1][name]).abs().max() < 1e-3, name


@pytest.mark.parametrize("probe", ["packs_exactly", "packs_as_alone"])
def test_a_base_that_does_not_keep_packed_sequences_apart_reads_one_at_a_time(
    tmp_path, dataset, use_small_base, monkeypatch, probe
):
    train.train(dataset, tmp_path / "single", recipe(use_small_base, training__micro_batch_size=1))
    monkeypatch.setattr(packing, probe, lambda *_: False)
    result = train.train(dataset, tmp_path / "apart", recipe(use_small_base, training__micro_batch_size=4))
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("single", "apart")]
    assert weights[0] == weights[1]
    assert any("does not keep packed sequences apart" in note for note in result.notes)


def test_a_window_shorter_than_an_example_is_found_where_examples_are_only_validated_together():
    examples = [chat.Example(list(range(3, 33)), 25), chat.Example(list(range(3, 23)), 18)]
    fit = micro_batch.MicroBatch(settings(batch_size=4, micro_batch_size=1), [examples], 1, print)
    fit.check_packing(small_model("mistral", sliding_window=64), [examples], "float32")
    assert fit.sizes == [1, 2, 4]
    fit.check_packing(small_model("mistral", sliding_window=24), [examples], "float32")
    assert fit.sizes == [1]


def test_a_step_that_ran_out_of_memory_is_taken_in_smaller_pieces_with_the_same_bytes(
    tmp_path, dataset, use_small_base, monkeypatch
):
    train.train(dataset, tmp_path / "small", recipe(use_small_base, training__micro_batch_size=1))
    holding(monkeypatch, 1)
    result = train.train(dataset, tmp_path / "shrunk", recipe(use_small_base, training__micro_batch_size=4))
    assert result.notes == (
        "4 examples at once did not fit into memory: 2 at once from here on, with the same result.",
        "2 examples at once did not fit into memory: 1 at once from here on, with the same result.",
    )
    small, shrunk = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("small", "shrunk"))
    assert all(torch.equal(small[name], shrunk[name]) for name in small)
    assert read_json(tmp_path / "shrunk" / "manifest.json")["micro_batch_size"] == 1


def test_a_divided_base_takes_no_smaller_pieces_as_the_others_wait_for_its_layers(monkeypatch):
    holding(monkeypatch, 1)
    examples = [chat.Example([3, 4, 5, 6 + number], 3) for number in range(4)]
    fit = micro_batch.MicroBatch(settings(batch_size=4, micro_batch_size=4), [examples], 1, print, shard=True)
    with pytest.raises(torch.OutOfMemoryError):
        fit.gradients(small_model("gemma3_text"), [lessons.Batch("loss", 1.0, examples)], lambda loss: loss.backward())
    assert fit.size == 4


def test_in_the_middle_of_a_step_too(tmp_path, dataset, use_small_base, monkeypatch):
    train.train(dataset, tmp_path / "small", recipe(use_small_base, training__micro_batch_size=1))
    answer_loss, calls = packing.answer_loss, []

    def second_piece_fails(logits, answers, supervised=None):
        calls.append(1)
        # The first call is the probe of the precision, then come the two pieces of the first step.
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return answer_loss(logits, answers, supervised)

    monkeypatch.setattr(packing, "answer_loss", second_piece_fails)
    result = train.train(dataset, tmp_path / "cut", recipe(use_small_base, training__micro_batch_size=2))
    assert len(result.notes) == 1
    small, cut = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("small", "cut"))
    assert all(torch.equal(small[name], cut[name]) for name in small)


def test_where_one_example_does_not_fit_gradient_checkpointing_is_switched_on(
    tmp_path, dataset, use_small_base, monkeypatch
):
    holding(monkeypatch, 0, with_checkpointing=2)
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__micro_batch_size=1))
    assert result.notes == ("One example did not fit into memory: gradient checkpointing is on from here on.",)
    assert read_json(tmp_path / "adapter" / "manifest.json")["gradient_checkpointing"] is True


@pytest.mark.parametrize(
    ("mode", "quantization", "said"),
    [
        ("auto", "none", 'quantization="nf4"'),
        ("on", "nf4", "Choose a smaller base"),
        ("off", "nf4", 'checkpointing="auto"'),
    ],
)
def test_where_nothing_fits_it_says_what_to_lower(
    tmp_path, dataset, use_small_base, monkeypatch, mode, quantization, said
):
    holding(monkeypatch, 0)
    chosen = recipe(use_small_base, training__gradient_checkpointing=mode, training__quantization=quantization)
    with pytest.raises(EnvironmentLacks, match=f"not enough memory for one example at a time.*{said}"):
        train.train(dataset, tmp_path / "adapter", chosen)


def test_gradient_checkpointing_changes_no_byte_of_the_weights(tmp_path, dataset, use_small_base, monkeypatch):
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP

    passes, forward = [], Gemma3MLP.forward
    monkeypatch.setattr(Gemma3MLP, "forward", lambda self, x: (passes.append(1), forward(self, x))[1])
    counted = {}
    for mode in ("off", "on"):
        train.train(dataset, tmp_path / mode, recipe(use_small_base, training__gradient_checkpointing=mode))
        counted[mode] = len(passes)
        passes.clear()
    off, on = (load_file(tmp_path / mode / "adapter_model.safetensors") for mode in ("off", "on"))
    assert all(torch.equal(off[name], on[name]) for name in off)
    # Each pass of the probe and of the 16 micro-batches is computed again on the way back.
    assert counted["on"] == counted["off"] + 17


def test_a_validation_loss_that_does_not_fit_is_taken_with_fewer_examples_at_once(
    tmp_path, dataset, use_small_base, monkeypatch
):
    plain = train.train(dataset, tmp_path / "plain", recipe(use_small_base)).validation_loss
    collate = packing.collate

    def collate_or_fail(batch, model):
        if not torch.is_grad_enabled() and len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return collate(batch, model)

    monkeypatch.setattr(packing, "collate", collate_or_fail)
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    assert result.validation_loss == pytest.approx(plain, abs=1e-5)


def beginning_alike(opening, longest):
    return [chat.Example([*range(opening), *[1000 + number] * (longest - opening)], longest - 1) for number in (1, 2)]


@pytest.mark.parametrize(
    ("batch", "opening", "longest", "token_bytes", "size"),
    [
        (16, 20, 80, 2_441_406, 16),
        (32, 20, 80, 2_441_406, 16),
        (6, 20, 80, 2_441_406, 6),
        (7, 20, 80, 2_441_406, 7),
        (16, 70, 190, 2_441_406, 4),
        (16, 70, 190, 1_000_000, 16),
        (64, 0, 80, 1_000, 32),
        (16, 0, 80, 2_441_406, 8),
        (16, 400, 500, 2_441_406, 4),
        (16, 0, 9000, 1_000, 1),
        (16, 20, 80, 9_000_000_000, 1),
    ],
)
def test_on_a_cpu_auto_is_a_rule_and_no_measurement(monkeypatch, batch, opening, longest, token_bytes, size):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    examples = beginning_alike(opening, longest)
    fit = micro_batch.MicroBatch(settings(batch_size=batch, micro_batch_size="auto"), [examples], token_bytes, print)
    fit.measure(None, [], "float32")
    assert fit.size == size


@pytest.mark.parametrize(("batch", "room", "size"), [(16, 100, 16), (16, 7, 4), (12, 5, 4), (12, 2, 2), (16, 1, 1)])
def test_on_a_gpu_auto_doubles_for_as_long_as_it_fits(monkeypatch, batch, room, size):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fit = micro_batch.MicroBatch(
        settings(batch_size=batch, micro_batch_size="auto"), [beginning_alike(20, 80)], 1, print
    )
    assert fit.size == 1
    monkeypatch.setattr(micro_batch, "fits_with_room", lambda _model, examples, _compute: len(examples) <= room)
    fit.measure(None, [[None] * batch], "float16")
    assert fit.size == size


def test_a_size_that_fits_without_head_room_is_not_taken(monkeypatch, small_base):
    peft_model = fresh(small_base)
    longest = [chat.Example([3, 4, 5, 6], 2)] * 4
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 10**9))
    for used, fits in ((5 * 10**8, True), (95 * 10**7, False)):
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda used=used: used)
        assert micro_batch.fits_with_room(peft_model, longest, "float32") is fits
    assert all(parameter.grad is None for parameter in peft_model.parameters())


def fresh(small_base, compute="float32", quantization="none", **lora):
    from toolkit.model import base as bases

    base = bases.LocatedBase(TINY_BASE_ID, None, small_base)
    chosen = load_recipe("demo", {"lora.r": 2} | {f"lora.{key}": value for key, value in lora.items()})
    return loading.add_lora(loading.load_base(base, loading.Precision(quantization, compute)), chosen.lora, 7)


# The precision.


@pytest.fixture
def fp16(monkeypatch):
    """The precision of an older GPU."""
    monkeypatch.setattr(loading, "compute_dtype", lambda: "float16")


def enlarged(monkeypatch, factor):
    """Load bases whose MLP gives numbers larger by a factor."""
    load = loading.load_base

    def load_enlarged(base, precision):
        loaded = load(base, precision)
        mlp = loaded.model.layers[0].mlp
        mlp.register_forward_hook(lambda _module, _inputs, output: output * factor)
        return loaded

    for module in (loading, adapters):
        monkeypatch.setattr(module, "load_base", load_enlarged)


def test_bf16_is_trained_in_on_a_cpu_with_the_adapter_in_float32_and_evaluation_stays_in_float32(
    tmp_path, dataset, use_small_base, monkeypatch
):
    monkeypatch.setattr("toolkit.training.trainer.has_bf16", lambda: False)
    losses = {}
    for compute in ("float32", "bfloat16"):
        said = train.train(dataset, tmp_path / compute, recipe(use_small_base, training__compute=compute)).notes
        losses[compute] = log_of(tmp_path / compute, "loss")[0]["loss"]
    assert said == ("This CPU has no instructions for bfloat16: it computes slower than in float32, and rounds more.",)
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=2e-2)
    folder = tmp_path / "bfloat16"
    assert read_json(folder / "manifest.json")["precision"]["compute"] == "bfloat16"
    assert {tensor.dtype for tensor in load_file(folder / "adapter_model.safetensors").values()} == {torch.float32}
    assert adapters.load_adapter(folder)[2] == loading.Precision("none", "float32")


def test_in_bf16_on_a_cpu_the_base_is_held_in_it_and_products_are_made_in_it(small_base):
    peft_model = fresh(small_base, "bfloat16")
    weights = {name: each.dtype for name, each in peft_model.named_parameters()}
    assert {dtype for name, dtype in weights.items() if "lora_" not in name} == {torch.bfloat16}
    assert {dtype for name, dtype in weights.items() if "lora_" in name} == {torch.float32}
    with loading.autocast("bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with loading.autocast("float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_bf16_on_a_gpu_without_it_is_refused_before_anything(tmp_path, dataset, use_small_base, monkeypatch):
    monkeypatch.setattr("toolkit.training.trainer.compute_dtype", lambda: "float16")
    with pytest.raises(EnvironmentLacks, match=r"GPU does not compute in bfloat16\. Give `training.compute"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__compute="bfloat16"))


def test_what_fits_fp16_is_trained_in_fp16(tmp_path, dataset, use_small_base, fp16):
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__quantization="none"))
    assert read_json(tmp_path / "adapter" / "manifest.json")["precision"]["compute"] == "float16"
    assert result.notes == ()
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_activations_that_overflow_fp16_are_computed_in_fp32(tmp_path, dataset, use_small_base, fp16, monkeypatch):
    enlarged(monkeypatch, 1e7)
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__quantization="none"))
    where = "model.layers.0.mlp"
    assert result.notes == (f"{where} does not fit fp16 on the longest example: everything is computed in fp32.",)
    precision = read_json(tmp_path / "adapter" / "manifest.json")["precision"]
    assert (precision["compute"], precision["overflowed"]) == ("float32", where)
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in log_of(tmp_path / "adapter", "loss"))


def test_an_adapter_that_overflows_fp16_is_evaluated_in_fp32(tmp_path, dataset, use_small_base, fp16, monkeypatch):
    train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__quantization="none"))
    assert adapters.load_adapter(tmp_path / "adapter")[2] == loading.Precision("none", "float16")
    enlarged(monkeypatch, 1e7)
    loaded, _, precision = adapters.load_adapter(tmp_path / "adapter")
    assert (precision.compute, precision.overflowed) == ("float32", "model.layers.0.mlp")
    assert loaded.dtype == torch.float32


def test_what_comes_near_the_end_of_fp16_counts_as_overflow(small_base):
    peft_model = fresh(small_base, "float16")
    peft_model.model.model.layers[0].mlp.register_forward_hook(lambda *_: torch.full((1, 4, 64), 4e4).half())
    found = loading.overflow(peft_model, "float16", lambda m: m(input_ids=torch.tensor([[3, 4, 5, 6]])).logits)
    assert found == "model.layers.0.mlp"


def test_a_base_whose_loss_is_no_number_is_refused_before_any_step(tmp_path, dataset, use_small_base, monkeypatch):
    enlarged(monkeypatch, float("nan"))
    with pytest.raises(ToolkitError, match=r"computes NaN or infinity before any training: the loss\."):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base))


def test_the_probe_leaves_no_trace(small_base):
    peft_model = fresh(small_base)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batch = [chat.Example([3, 4, 5, 6], 2)]
    fit = micro_batch.MicroBatch(settings(), [batch], 1, print)
    peft_model.train()

    def run_once(model):
        return fit.gradients(model, [lessons.Batch("loss", 1.0, batch)], torch.Tensor.backward)["loss"]

    assert loading.overflow(peft_model, "float16", run_once) is None
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in peft_model.parameters())
    assert not any(module._forward_hooks for module in peft_model.modules())


# No step on nonsense.


def test_a_loss_that_is_not_finite_stops_the_run_before_the_step(tmp_path, dataset, use_small_base, monkeypatch):
    answer_loss, calls = packing.answer_loss, []

    def nan_in_step_5(logits, answers, supervised=None):
        calls.append(1)
        # One call for the probe, two a step, one for the validation at step 3.
        return answer_loss(logits, answers, supervised) * (torch.nan if len(calls) == 11 else 1)

    monkeypatch.setattr(packing, "answer_loss", nan_in_step_5)
    with pytest.raises(ToolkitError, match=r"The loss is nan at step 5; .* kept\. Lower `training.learning_rate`"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    assert not (tmp_path / "adapter").exists()
    kept = [path.name for path in (tmp_path / "adapter-checkpoints").glob("checkpoint-*")]
    assert kept == ["checkpoint-3"]
    assert finite(tmp_path / "adapter-checkpoints" / "checkpoint-3" / "adapter_model.safetensors")


def finite(file):
    return all(bool(tensor.isfinite().all()) for tensor in load_file(file).values())


class Scaler:
    """A gradient scaler in the place of that of a GPU, which scales by 1."""

    def scale(self, loss):
        return loss

    def step(self, optimizer, *_):
        optimizer.step()

    def update(self):
        pass

    def state_dict(self):
        return {}


def with_gradient_norm(monkeypatch, norm_at, *, scaler=None):
    """A training whose gradient norm is what `norm_at` says of a step, with or without a gradient scaler."""
    make = train.make_trainer

    def make_with_norm(*args, **kwargs):
        trainer = make(*args, **kwargs)
        trainer.accelerator.scaler = scaler
        monkeypatch.setattr(trainer, "_get_grad_norm", lambda _model, grad_norm: norm_at(trainer.state.global_step + 1))
        return trainer

    monkeypatch.setattr(train, "make_trainer", make_with_norm)


@pytest.mark.parametrize(
    ("bad", "said", "kept"),
    [(1, r"at step 1\. Lower `training.learning_rate`", []), (6, "at step 6; the last checkpoint", ["checkpoint-3"])],
)
def test_gradients_that_are_no_numbers_stop_the_run_and_are_not_saved(
    tmp_path, dataset, use_small_base, monkeypatch, bad, said, kept
):
    with_gradient_norm(monkeypatch, lambda step: float("inf") if step == bad else 1.0)
    with pytest.raises(ToolkitError, match=f"The gradient norm is inf {said}"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    assert [path.name for path in (tmp_path / "adapter-checkpoints").glob("checkpoint-*")] == kept


def test_the_gradient_scaler_of_fp16_may_skip_steps(tmp_path, dataset, use_small_base, monkeypatch):
    with_gradient_norm(monkeypatch, lambda step: float("inf") if step in (4, 5, 6) else 1.0, scaler=Scaler())
    assert train.train(dataset, tmp_path / "adapter", recipe(use_small_base)).steps == 8
    assert all("Infinity" not in json.dumps(line) for line in read_jsonl(tmp_path / "adapter/training_log.jsonl"))


def test_a_training_that_changed_nothing_does_not_finish(tmp_path, dataset, use_small_base):
    # The first step of a warm-up has the rate 0.
    chosen = recipe(use_small_base, training__max_steps=1, training__warmup_steps=10)
    with pytest.raises(ToolkitError, match=r"After 1 steps the adapter changes nothing.*`training.warmup_steps`"):
        train.train(dataset, tmp_path / "adapter", chosen)
    assert not (tmp_path / "adapter").exists()


# The best step.


def log_of(adapter, key):
    return [line for line in read_jsonl(adapter / "training_log.jsonl") if key in line]


@pytest.fixture
def strange(tmp_path):
    """A dataset on which the validation loss soon gets worse, and settings under which it does."""
    return write_dataset(tmp_path / "strange", strange_validation=True)


def early_best(base, **overrides):
    settings = {"training__keep": "best", "training__learning_rate": 0.05, "training__save_every": 1}
    settings |= {"training__quantization": "nf4"}
    return recipe(base, **settings | overrides)


def test_the_adapter_is_the_one_of_the_lowest_validation_loss(tmp_path, strange, use_small_base):
    result = train.train(strange, tmp_path / "best", early_best(use_small_base))
    measured = log_of(tmp_path / "best", "validation_loss")
    lowest = min(measured, key=lambda line: line["validation_loss"])
    assert len(measured) == 8
    assert result.best_step == lowest["step"] < 8
    assert result.validation_loss == lowest["validation_loss"]
    assert [line["step"] for line in measured if line.get("kept")] == [result.best_step]
    assert read_json(tmp_path / "best" / "manifest.json")["best_step"] == result.best_step
    # Its weights are those that the same training had at that step.
    at_best = {}

    def look(progress):
        if progress.step == result.best_step + 1:
            checkpoint = tmp_path / "last-checkpoints" / f"checkpoint-{result.best_step}"
            at_best.update(load_file(checkpoint / "adapter_model.safetensors"))

    train.train(strange, tmp_path / "last", early_best(use_small_base, training__keep="last"), progress=look)
    best = load_file(tmp_path / "best" / "adapter_model.safetensors")
    assert all(torch.equal(best[name], at_best[name]) for name in best)
    last = load_file(tmp_path / "last" / "adapter_model.safetensors")
    assert not all(torch.equal(best[name], last[name]) for name in best)


def test_early_stopping_ends_after_so_many_validations_without_a_lower_loss(tmp_path, strange, use_small_base):
    chosen = early_best(use_small_base, training__early_stopping=2, training__max_steps=50)
    result = train.train(strange, tmp_path / "adapter", chosen)
    assert result.steps < 50
    assert result.best_step == result.steps - 2
    assert result.epochs == pytest.approx(result.steps / 3, abs=0.005)
    manifest = read_json(tmp_path / "adapter" / "manifest.json")
    assert (manifest["steps"], manifest["examples_seen"]) == (result.steps, result.steps * 4)


def test_a_run_that_stopped_early_and_was_killed_is_not_trained_further(tmp_path, strange, use_small_base, monkeypatch):
    chosen = early_best(use_small_base, training__early_stopping=1, training__max_steps=50)
    whole = train.train(strange, tmp_path / "whole", chosen)
    with monkeypatch.context() as patch:
        patch.setattr(train.saving, "save_adapter", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            train.train(strange, tmp_path / "cut", chosen)
    result = train.train(strange, tmp_path / "cut", chosen)
    assert (result.resumed_from, result.best_step) == (whole.steps, whole.best_step)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")


def test_early_stopping_without_a_validation_split_is_refused(tmp_path, use_small_base):
    dataset = write_dataset(tmp_path / "dataset", splits=("train", "test"))
    with pytest.raises(InputError, match="no rows in its validation split"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__early_stopping=2))


def test_without_a_validation_split_the_last_step_is_kept_and_it_is_said(tmp_path, use_small_base):
    dataset = write_dataset(tmp_path / "dataset", splits=("train", "test"))
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__keep="best"))
    assert (result.best_step, result.validation_loss, result.steps) == (None, None, 8)
    assert any("the last one's adapter is written" in note for note in result.notes)


# What is seen meanwhile.


def test_progress_says_what_a_user_sees(tmp_path, dataset, use_small_base):
    seen = []
    train.train(dataset, tmp_path / "adapter", recipe(use_small_base), progress=seen.append)
    assert [progress.step for progress in seen] == list(range(1, 9))
    assert all(progress.steps == 8 and progress.loss > 0 and progress.learning_rate >= 0 for progress in seen)
    assert all(progress.tokens_per_second > 0 and progress.memory_bytes > 10**7 for progress in seen)
    assert [progress.validation_loss is not None for progress in seen] == [False] * 2 + [True] * 6
    assert seen[-1].seconds_left == 0


def test_what_draws_the_losses_changes_no_result():
    plain, tracked = (load_recipe("demo", {"training.track": track}) for track in (None, ["tensorboard"]))
    assert train.deciding_settings(plain) == train.deciding_settings(tracked)


# What a base does not allow.


def test_a_base_without_gradient_checkpointing_is_an_input_error():
    class Plain:
        def activation_checkpointing_enable(self):
            raise ValueError("Plain does not support it.\nMore.")

    with pytest.raises(InputError, match=r"checkpointing: Plain does not support it\. Give `training.gradient"):
        micro_batch.turn_checkpointing_on(Plain())


@pytest.mark.parametrize(
    ("quantization", "said"),
    [("nf4", r"trained held in NF4: 'x'\. Give `training.quantization=\"none\"`"), ("none", r"trained: 'x'\.")],
)
def test_what_the_libraries_say_of_a_base_in_its_first_pass_is_an_input_error(
    tmp_path, dataset, use_small_base, monkeypatch, quantization, said
):
    def fail(*_):
        raise KeyError("x")

    monkeypatch.setattr(packing, "answer_loss", fail)
    with pytest.raises(InputError, match=said):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__quantization=quantization))


@pytest.mark.parametrize("module", ["(q_proj", "no_such"])
def test_target_modules_that_the_base_does_not_have_are_an_input_error(tmp_path, dataset, use_small_base, module):
    with pytest.raises(InputError, match=r"LoRA does not fit the base: .*Correct .*lora\.target_modules"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, lora__target_modules=[module]))
