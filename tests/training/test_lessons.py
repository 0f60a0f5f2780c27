"""Descriptions are seen anew at every visit, and what is learnt beside names is weighed as the recipe says."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from support.models import small_model
from support.training import adapter_bytes, recipe, write_dataset
from toolkit.core.errors import InputError
from toolkit.core.folder import read_json, read_jsonl
from toolkit.core.layout import TINY_BASE_ID
from toolkit.core.recipe import load_recipe
from toolkit.data.dataset import answer_of, read_split
from toolkit.model import adapter as adapters
from toolkit.model import centroids, chat
from toolkit.model.prompts import Reader
from toolkit.training import contrast, lessons, micro_batch, train

TEXT = "A red fox, small and quick; it has six tails. They glow at night!"
KOREAN = "꼬리가 여섯 개인 붉은 여우다. 밤이 되면 꼬리가 빛나고, 사람을 잘 따른다。매우、영리하다."
MIXED = {
    "training__augmentation": 0.8,
    "training__word_dropout": 0.1,
    "training__way_back": 0.5,
    "training__contrast": 0.3,
}


def settings(**overrides):
    plain = {"training.augmentation": 0.0, "training.contrast": 0.0}
    return load_recipe("demo", plain | {f"training.{key}": value for key, value in overrides.items()}).training


def many(text, **overrides):
    """How a text is seen at a hundred visits."""
    chosen = settings(**{"augmentation": 1.0} | overrides)
    return {lessons.seen_anew(text, chosen, Random(seed)) for seed in range(100)}


def row(text=TEXT, **others):
    return {"messages": [*chat.naming_messages(text), {"role": "assistant", "content": "Vulpix"}], **others}


def prepared(tokenizer, rows, said=print, **overrides):
    return lessons.prepare_lessons(tokenizer, rows, recipe(TINY_BASE_ID, **overrides), said)


def texts(tokenizer, drawn):
    return [[tokenizer.decode(example.input_ids) for example in one.examples] for one in drawn]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        (TEXT, {"A red fox,", "small and quick;", "it has six tails.", "They glow at night!"}),
        (
            KOREAN,
            {"꼬리가 여섯 개인 붉은 여우다.", "밤이 되면 꼬리가 빛나고,", "사람을 잘 따른다。", "매우、", "영리하다."},
        ),
        ("It weighs 3,000 kg", {"It weighs 3,000 kg"}),
    ],
)
def test_clauses_stay_whole_change_places_and_at_least_one_is_left(text, clauses):
    seen = many(text)
    orders = {
        tuple(clause for _, clause in sorted((one.index(each), each) for each in clauses if each in one))
        for one in seen
    }
    assert all(" ".join(order) in seen for order in orders)
    assert len(orders) == len(seen)
    assert min(map(len, orders)) == 1
    assert max(map(len, orders)) == len(clauses)


def test_the_share_of_visits_clauses_and_words_is_what_the_settings_say():
    assert many(TEXT, augmentation=0.0) == {TEXT}
    three_of_four = settings(augmentation=0.75)
    kept = [lessons.seen_anew(TEXT, three_of_four, Random(seed)) == TEXT for seed in range(1000)]
    assert 0.2 < sum(kept) / 1000 < 0.32
    whole = many(TEXT, clause_dropout=0.0)
    assert {len(one) for one in whole} == {len(TEXT)}
    counted = "one two three four five six seven eight nine ten"
    words = [one.split() for one in many(counted, word_dropout=0.3)]
    assert all(one == sorted(one, key=counted.index) for one in words)
    assert 6 < sum(map(len, words)) / len(words) < 8


def test_only_the_description_changes_and_other_turns_stay(tokenizer):
    asked = f"Name it, please, now!\n\n{TEXT}\n\nThanks, friend."
    turns = [("user", "Hello, you!"), ("assistant", "Hi, there."), ("user", asked), ("assistant", "Vulpix")]
    messages = [{"role": role, "content": content} for role, content in turns]
    taught = prepared(tokenizer, [{"messages": messages, "description": TEXT}], training__augmentation=1.0)
    seen = {texts(tokenizer, lessons.draw(taught, [0], 7, step))[0][0] for step in range(20)}
    plain = tokenizer.decode(chat.encode(tokenizer, messages).input_ids)
    before, after = plain.split(TEXT)
    assert len(seen) > 5
    assert all(one.startswith(before) and one.endswith(after) for one in seen)


def test_what_is_seen_depends_on_seed_step_and_row_and_on_nothing_else(tokenizer):
    taught = prepared(tokenizer, [row(), row(KOREAN)], **MIXED)
    again = prepared(tokenizer, [row(), row(KOREAN)], **MIXED)
    both, turned = lessons.draw(taught, [0, 1], 7, 3), lessons.draw(again, [1, 0], 7, 3)
    assert [one.examples for one in both] == [one.examples[::-1] for one in turned]
    assert [one.labels for one in both] == [[0, 0], []]
    steps = [texts(tokenizer, lessons.draw(taught, [0, 1], 7, step)) for step in range(8)]
    seeds = [texts(tokenizer, lessons.draw(taught, [0, 1], seed, 3)) for seed in range(8)]
    for drawn in (steps, seeds):
        assert len({one[0][0] for one in drawn}) > 4
    alike = prepared(tokenizer, [row()] * 8, **MIXED)
    assert len(set(texts(tokenizer, lessons.draw(alike, range(8), 7, 3))[0])) > 4


def test_without_augmentation_every_visit_sees_the_row_itself(tokenizer):
    taught = prepared(tokenizer, [row()])
    (only,) = lessons.draw(taught, [0], 7, 3)
    assert only.examples == [chat.encode(tokenizer, row()["messages"])]
    assert (only.column, only.weight) == ("loss", 1.0)


def test_a_row_whose_question_does_not_hold_its_description_is_left_as_it_is_and_said(tokenizer):
    said = []
    rows = [row(), row(description="A text that its question lacks.")]
    taught = prepared(tokenizer, rows, said.append, **MIXED)
    assert said == [
        "1 of 2 rows of train do not hold their description word for word in their question: they are seen as they are."
    ]
    for step in range(10):
        naming, back = lessons.draw(taught, [1, 0], 7, step)
        assert naming.examples[0] == chat.encode(tokenizer, row()["messages"])
        assert len(back.examples) == 1


def test_the_way_back_asks_for_the_description_with_the_row_s_system_turn(tokenizer):
    system = {"role": "system", "content": "You know creatures."}
    taught = prepared(tokenizer, [row() | {"messages": [system, *row()["messages"]]}], training__way_back=0.3)
    naming, back = lessons.draw(taught, [0], 7, 0)
    asked = chat.naming_messages("Vulpix", "다음 이름의 포켓몬을 묘사해줘:", "You know creatures.")
    assert back.examples == [chat.encode(tokenizer, [*asked, {"role": "assistant", "content": TEXT}])]
    assert (back.column, back.weight) == ("way_back_loss", 0.3)
    assert naming.examples == [chat.encode(tokenizer, [system, *row()["messages"]])]


def test_a_text_that_became_too_long_is_seen_as_it_is(tokenizer):
    # In another order, words may be more tokens.
    rows = [row("A, Blastoise.")]
    most = len(chat.encode(tokenizer, rows[0]["messages"]).input_ids)
    shuffled = {"training__augmentation": 1.0, "training__clause_dropout": 0.0}

    def longest(limit):
        taught = prepared(tokenizer, rows, **shuffled, training__max_length=limit)
        return max(len(lessons.draw(taught, [0], 7, step)[0].examples[0].input_ids) for step in range(100))

    assert longest(512) > most
    assert longest(most) == most


def test_a_description_that_is_too_long_an_answer_is_named(tokenizer):
    most = len(chat.encode(tokenizer, row()["messages"]).input_ids) + 10
    long = {"messages": [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "Vulpix " * 20}]}
    with pytest.raises(InputError, match=r"Row 1 of train has \d+ tokens"):
        prepared(tokenizer, [row(), long], training__max_length=most)
    asked = {"messages": [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "Vulpix"}]}
    most = len(chat.encode(tokenizer, asked["messages"]).input_ids)
    with pytest.raises(InputError, match=r"Row 0 of train \(name to description\) has \d+ tokens"):
        prepared(tokenizer, [asked], training__way_back=1.0, training__max_length=most)


def batch(column, weight, first, start, labels=()):
    examples = [chat.Example([3, 4, *range(first, first + 6 + number)], start) for number in (2, 0, 3, 1)]
    return lessons.Batch(column, weight, examples, labels)


def gradients(model, batches, at_once=4, proxies=None):
    """The losses of a step, and the gradients of the model and of the proxies."""
    model.zero_grad(set_to_none=True)
    chosen = settings(batch_size=4, micro_batch_size=at_once, contrast=0.5)
    fit = micro_batch.MicroBatch(chosen, [each.examples for each in batches], 1, print)
    losses = fit.gradients(model, batches, torch.Tensor.backward, proxies)
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    return {column: float(loss) for column, loss in losses.items()}, found


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_gradients_are_the_weighted_sum_of_the_lessons_own(size):
    model = small_model("gemma3_text")
    naming, back = batch("loss", 1.0, 10, 6), batch("way_back_loss", 0.3, 30, 3)
    (first, one), (second, other) = (gradients(model, [replace(each, weight=1.0)]) for each in (naming, back))
    losses, together = gradients(model, [naming, back], size)
    assert losses == pytest.approx(first | second, abs=1e-5)
    torch.testing.assert_close(together, one + 0.3 * other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("family", ["gemma3_text", "llama"])
def test_the_contrast_is_a_softmax_of_cosines_between_last_states_and_proxies(family, size):
    model = small_model(family)
    naming = batch("loss", 1.0, 10, 6, labels=[2, 0, 1, 2])
    proxies = contrast.first_proxies(model, 3, 7)
    assert proxies.shape == (3, model.config.hidden_size)
    assert torch.equal(proxies, contrast.first_proxies(model, 3, 7))
    losses, plain = gradients(model, [naming])
    both, found = gradients(model, [naming], size, proxies)
    moved = proxies.grad.clone()
    # The gradients of the last step are not added to.
    gradients(model, [naming], size, proxies)
    torch.testing.assert_close(proxies.grad, moved)
    model.zero_grad(set_to_none=True)
    proxies.grad = None
    apart = 0
    for example, label in zip(naming.examples, naming.labels, strict=True):
        prompt = torch.tensor([example.input_ids[: example.answer_start]])
        state = model(input_ids=prompt, output_hidden_states=True).hidden_states[-1][0, -1]
        cosines = torch.cosine_similarity(state[None], proxies)
        apart = apart + torch.nn.functional.cross_entropy(20 * cosines, torch.tensor(label)) / 4
    (0.5 * apart).backward()
    assert both == pytest.approx(losses | {"contrast_loss": apart.item()}, abs=1e-4)
    torch.testing.assert_close(moved, proxies.grad, rtol=0, atol=1e-4)
    # The output embeddings come after the states.
    expected = plain + torch.cat(
        [(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in model.parameters()]
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_base_that_shows_no_states_is_refused(monkeypatch):
    model = small_model("llama")
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(InputError, match=r"Give `training\.contrast=0`"):
        contrast.first_proxies(model, 3, 7)


def test_memory_is_planned_for_the_lesson_that_takes_more(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    short, long = ([chat.Example([*range(20), *[first] * own], 19) for first in (1000, 1001)] for own in (60, 500))
    sizes = [
        micro_batch.MicroBatch(settings(batch_size=16, micro_batch_size="auto"), chosen, 2_441_406, print).size
        for chosen in ([short], [short, long], [long, short])
    ]
    assert sizes == [16, 2, 2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fit = micro_batch.MicroBatch(settings(batch_size=16, micro_batch_size="auto"), [short, long], 1, print)
    monkeypatch.setattr(
        micro_batch, "fits_with_room", lambda _model, examples, _compute: len(examples) * examples[0] <= 40
    )
    fit.measure(None, [[1] * 16, [10] * 16], "float16")
    assert fit.size == 4


# In a training.


@pytest.fixture(scope="module")
def whole(tmp_path_factory, small_base) -> Path:
    """An adapter of a run that nothing interrupted, which saw descriptions anew and learnt the way back."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.model.base.tiny_base_folder", lambda: small_base)
        train.train(write_dataset(folder / "dataset"), folder / "adapter", recipe(TINY_BASE_ID, **MIXED))
    return folder


def test_an_interrupted_run_sees_the_same_and_ends_with_the_same_bytes(tmp_path, whole, use_small_base):
    import signal

    def stop(progress):
        if progress.step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(train.Interrupted):
        train.train(whole / "dataset", tmp_path / "cut", recipe(use_small_base, **MIXED), progress=stop)
    assert train.train(whole / "dataset", tmp_path / "cut", recipe(use_small_base, **MIXED)).resumed_from in (4, 5)
    cut = adapter_bytes(tmp_path / "cut")
    assert cut == adapter_bytes(whole / "adapter")
    assert "centroids.safetensors" in cut


def test_proxies_are_learnt_ten_times_as_fast_and_are_in_no_adapter(tmp_path, whole, use_small_base, monkeypatch):
    from safetensors.torch import load_file

    made, make = [], train.make_trainer
    monkeypatch.setattr(train, "make_trainer", lambda *given: made.append(make(*given)) or made[0])
    result = train.train(whole / "dataset", tmp_path / "adapter", recipe(use_small_base, **MIXED))
    *others, proxies = made[0].optimizer.param_groups
    assert [tuple(each.shape) for each in proxies["params"]] == [(3, 64)]
    assert proxies["initial_lr"] == pytest.approx(10 * others[0]["initial_lr"])
    assert proxies["weight_decay"] == 0
    assert not [name for name in load_file(result.adapter / "adapter_model.safetensors") if "lora" not in name]


def test_centroids_are_the_mean_states_of_the_adapter_that_was_written(tmp_path, use_small_base):
    dataset = write_dataset(tmp_path / "dataset", strange_validation=True)
    chosen = recipe(use_small_base, training__keep="best", training__learning_rate=0.05, training__contrast=0.5, seed=8)
    assert train.train(dataset, tmp_path / "adapter", chosen).best_step < 8
    held = centroids.read_centroids(tmp_path / "adapter")
    model, tokenizer, _ = adapters.load_adapter(tmp_path / "adapter")
    rows = read_split(dataset, "train")
    for number, answer in enumerate(read_json(tmp_path / "adapter" / "answers.json")):
        prompts = [chat.prompt_ids(tokenizer, one["messages"][:-1]) for one in rows if answer_of(one) == answer]
        states = torch.cat([Reader(model).read([prompt]).states for prompt in prompts])
        mean = torch.nn.functional.normalize(states, dim=1).mean(0)
        torch.testing.assert_close(held.vectors[number], mean / mean.norm(), rtol=0, atol=1e-4)


def test_the_log_keeps_the_loss_of_names_and_has_the_way_back_beside_it(tmp_path, whole, use_small_base):
    lines = [line for line in read_jsonl(whole / "adapter" / "training_log.jsonl") if "loss" in line]
    assert all({"loss", "contrast_loss", "way_back_loss", "grad_norm"} <= line.keys() for line in lines)
    plain = recipe(use_small_base, training__max_steps=2, lora__dropout=0.0)
    train.train(whole / "dataset", tmp_path / "names", plain)
    weighed = recipe(use_small_base, training__max_steps=2, lora__dropout=0.0, training__way_back=0.5)
    train.train(whole / "dataset", tmp_path / "both", weighed)
    names, both = (read_jsonl(tmp_path / name / "training_log.jsonl")[0] for name in ("names", "both"))
    # Of the first step, which no lesson changed yet, and one that hardly did.
    assert both["loss"] == pytest.approx(names["loss"], abs=0.1)
    assert "way_back_loss" not in names
    assert adapter_bytes(tmp_path / "names") != adapter_bytes(tmp_path / "both")


def test_settings_of_lessons_count_once_they_are_used_so_that_older_runs_go_on(whole):
    def deciding(**overrides):
        return train.deciding_settings(recipe(TINY_BASE_ID, **overrides))["training"]

    older = deciding()
    assert older.keys().isdisjoint({"augmentation", "clause_dropout", "word_dropout", "way_back", "contrast", "track"})
    assert deciding(training__clause_dropout=0.5) == older
    assert deciding(training__augmentation=0.5) != deciding(training__augmentation=0.5, training__clause_dropout=0.5)
    assert deciding(training__way_back=0.5) == older | {"way_back": 0.5}
    assert read_json(whole / "adapter" / "manifest.json")["recipe"]["training"]["way_back"] == 0.5
