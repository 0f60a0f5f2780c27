"""Evaluation: every figure follows from the predictions, beside baselines, and an interruption loses nothing."""

import json
import shutil
from contextlib import contextmanager

import pyarrow
import pyarrow.parquet
import pytest

from support.adapters import scale
from support.training import recipe, write_dataset
from toolkit.core.errors import InputError
from toolkit.core.folder import file_hashes, read_json, read_jsonl, read_manifest, write_json
from toolkit.data.dataset import answer_of, locate_dataset, read_split
from toolkit.evaluation import answers, evaluate, predictions
from toolkit.model import adapter as adapters
from toolkit.model import base, chat, rank
from toolkit.model.chat_template import with_answer
from toolkit.training import train

WITHOUT_TIMES = ("evaluation.json", "samples.jsonl", "predictions.parquet")


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "dataset", splits=("train", "validation", "test", "unseen"))


@pytest.fixture
def adapter(tmp_path, dataset, use_small_base):
    train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    return tmp_path / "adapter"


CREATURES = {
    f"{name}{number}": f"a creature that {verb}s {number} stars"
    for number, (name, verb) in enumerate(
        zip(
            ["Abr", "Bed", "Cly", "Dro", "Ebl", "Fum", "Gry", "Hov", "Ixu", "Jem", "Kro"],
            ["eat", "see"] * 6,
            strict=False,
        )
    )
}


@pytest.fixture
def eleven(tmp_path, monkeypatch):
    """A dataset of eleven creatures that are never seen: enough for tens of them, and for halves."""
    monkeypatch.setattr("support.training.CREATURES", CREATURES)
    return write_dataset(tmp_path / "eleven", splits=("unseen",))


def measure(adapter, dataset, settings=None, **how):
    settings = settings or recipe("pokepicker/tiny-gemma")
    return evaluate.evaluate(adapter, dataset, recipe=settings, **how)


def with_columns(dataset, **columns):
    """Add columns to every split; each has three rows."""
    for split in ("test", "unseen"):
        (file,) = dataset.files()[split]
        table = pyarrow.parquet.read_table(file)
        for name, values in columns.items():
            table = table.append_column(name, pyarrow.array(values))
        pyarrow.parquet.write_table(table, file)
    return locate_dataset(str(dataset.path))


def written(folder):
    return {name: (folder / name).read_bytes() for name in WITHOUT_TIMES}


def test_settings_are_chosen_by_validation_without_the_rows_of_test_and_unseen(adapter, dataset):
    settings = recipe("pokepicker/tiny-gemma")
    scores = evaluate.validation_scores(adapter, dataset.path, settings)
    assert (scores["mrr"]["n"], scores.keys()) == (3, {"top1", "top5", "mrr", "exact"})
    # The files of the rows in one another's place: what `test` and `unseen` hold changes nothing, `validation` does.
    files = {split: file for split, (file,) in dataset.files().items()}
    files["unseen"].write_bytes(files["test"].read_bytes())
    assert evaluate.validation_scores(adapter, dataset.path, settings) == scores
    files["test"].write_bytes(files["validation"].read_bytes())
    assert measure(adapter, dataset)["test"]["methods"]["adapter"] == scores
    files["validation"].unlink()
    with pytest.raises(InputError, match="has no rows in validation; its splits are train, test, unseen"):
        evaluate.validation_scores(adapter, dataset.path, settings)


def test_the_adapter_stands_beside_its_baselines(adapter, dataset):
    evaluation = measure(adapter, dataset)
    methods = evaluation["test"]["methods"]
    assert list(methods) == ["adapter", "base", "tfidf", "tfidf_centroid", "frequent", "chance"]
    assert evaluation["candidates"] == 3
    assert methods["chance"]["top1"]["value"] == pytest.approx(1 / 3)
    assert methods["tfidf"]["top1"]["value"] == 1
    assert {"top1", "top5", "mrr", "exact"} == set(methods["adapter"]) == set(methods["base"])
    assert set(evaluation["test"]["differences"]) == set(methods) - {"adapter", "chance"}
    assert list(evaluation["unseen"]["methods"]) == ["adapter", "adapter, new names", "base"]
    assert read_json(adapter / "evaluation.json") == evaluation


def test_progress_goes_on_within_a_row_and_says_each_row_once(adapter, dataset, monkeypatch):
    # Each candidate of each row is a pass of its own.
    monkeypatch.setattr(rank, "AT_ONCE", {"cpu": 1})
    told = []
    measure(adapter, dataset, baselines=[], progress=lambda *where: told.append(where))
    done = [done for what, done, of in told if (what, of) == ("adapter: identify", 3)]
    assert done == sorted(done)
    assert [row for row in done if row == int(row)] == [1, 2, 3]
    assert [row for row in done if row < 1] == pytest.approx([1 / 3, 2 / 3])


def test_only_what_was_asked_for_is_compared(adapter, dataset):
    evaluation = measure(adapter, dataset, baselines=["tfidf"])
    assert list(evaluation["test"]["methods"]) == ["adapter", "tfidf"]
    assert list(evaluation["unseen"]["methods"]) == ["adapter", "adapter, new names"]
    with pytest.raises(InputError, match=r"no baseline 'luck'\. Choose among base, tfidf"):
        measure(adapter, dataset, baselines=["luck"])


def test_from_python_two_folders_are_enough_and_the_settings_are_the_adapters_own(adapter, dataset):
    manifest = read_json(adapter / "manifest.json")
    own = manifest["recipe"] | {"seed": 11, "decoding": manifest["recipe"]["decoding"] | {"temperature": 0.3}}
    write_json(adapter / "manifest.json", manifest | {"recipe": own})
    evaluation = evaluate.evaluate(str(adapter), str(dataset.path))
    assert (evaluation["seed"], evaluation["settings"]["decoding"]["temperature"]) == (11, 0.3)


def test_the_figures_follow_from_the_predictions(adapter, dataset):
    evaluation = measure(adapter, dataset)
    made = predictions.read_predictions(adapter / "predictions.parquet")
    asked = predictions.read_rows(dataset, recipe("pokepicker/tiny-gemma").evaluation)
    again = evaluate.figures_of(made, asked, 7)
    assert {key: evaluation[key] for key in ("test", "unseen")} == again


def test_the_predictions_are_those_of_plain_full_passes(adapter, dataset):
    import torch

    measure(adapter, dataset)
    made = predictions.read_predictions(adapter / "predictions.parquet")
    peft_model, tokenizer, _ = adapters.load_adapter(adapter)
    candidates = ["Pikachu", "Squirtle", "Vulpix"]
    for method in ("adapter", "base"):
        for row, prediction in zip(
            read_split(dataset, "test"), [one for one in made if one.method == method], strict=False
        ):
            scores = {}
            for answer in candidates:
                prompt = chat.prompt_ids(tokenizer, row["messages"][:-1])
                (ids,) = rank.encode_answers(tokenizer, [answer])
                with torch.no_grad():
                    if method == "base":
                        with peft_model.disable_adapter():
                            logits = peft_model(torch.tensor([prompt + ids])).logits[0]
                    else:
                        logits = peft_model(torch.tensor([prompt + ids])).logits[0]
                steps = logits[len(prompt) - 1 : -1].double().log_softmax(-1)
                scores[answer] = float(steps.gather(1, torch.tensor(ids)[:, None]).sum())
            ranked = sorted(candidates, key=lambda answer: -scores[answer])
            assert prediction.top == ranked
            assert prediction.rank == (ranked.index(prediction.answer) + 1, 1)
            assert prediction.log_likelihoods == pytest.approx([scores[answer] for answer in ranked], abs=1e-3)
            likeliest = torch.tensor([scores[answer] for answer in candidates]).softmax(0).max()
            assert prediction.confidence == pytest.approx(float(likeliest), abs=1e-3)


@pytest.mark.parametrize("wrong", ["it always gives the same scores", "it always says the first name"])
def test_a_model_that_does_not_read_is_flagged(adapter, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr("support.training.CREATURES", {f"Name{number}": f"creature {number}" for number in range(12)})
    many = write_dataset(tmp_path / "many", splits=("train", "test"))
    scores = [-1.0] * 12 if "same" in wrong and "scores" in wrong else [-0.1, *[-9.0] * 11]
    monkeypatch.setattr(answers.rank, "score", lambda prompts, *_: [scores] * len(prompts))
    evaluation = measure(adapter, many, baselines=[])
    assert evaluation["test"]["shuffled"]["reads"] is False


def test_a_model_that_tells_nothing_apart_is_measured_at_chance_everywhere(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("support.training.CREATURES", {f"Name{number}": f"creature {number}" for number in range(12)})
    many = write_dataset(tmp_path / "many", splits=("train", "test"))
    monkeypatch.setattr(answers.rank, "score", lambda prompts, *_: [[-1.0] * 12] * len(prompts))
    test = measure(adapter, many, baselines=["frequent", "chance"])["test"]
    chance = pytest.approx({name: figure["value"] for name, figure in test["methods"]["chance"].items()})
    for figures in (test["methods"]["adapter"], test["methods"]["frequent"], test["shuffled"]["figures"]):
        assert {name: figures[name]["value"] for name in ("top1", "top5", "mrr")} == chance
    for difference in (test["differences"]["frequent"], test["shuffled"]["difference"]):
        assert {name: figure["value"] for name, figure in difference.items()} == {"top1": 0, "top5": 0, "mrr": 0}
    assert [part["rows"] for part in test["places"]] == [1, 4, 5, 2]
    assert test["confusions"] == []
    assert test["calibration"]["error"] == pytest.approx(0)
    made = predictions.read_predictions(adapter / "predictions.parquet")
    assert {one.rank for one in made} == {(6.5, 12)}
    asked = predictions.read_rows(many, recipe("pokepicker/tiny-gemma").evaluation)
    assert evaluate.figures_of(made, asked, 7)["test"] == test


def test_samples_are_the_first_rows_in_order_and_all_of_unseen(adapter, dataset):
    measure(adapter, dataset)
    samples = read_jsonl(adapter / "samples.jsonl")
    assert [sample["split"] for sample in samples] == ["test"] * 3 + ["unseen"] * 3
    assert [sample["answer"] for sample in samples] == ["Vulpix", "Squirtle", "Pikachu"] * 2
    assert all(len(sample["names"]) == 3 for sample in samples)
    assert all(sorted(sample["identified"]) == ["Pikachu", "Squirtle", "Vulpix"] for sample in samples[:3])
    assert [sample["new_names"] is None for sample in samples] == [True] * 3 + [False] * 3
    assert {"Pikachu", "Squirtle", "Vulpix"}.isdisjoint(name for sample in samples[3:] for name in sample["new_names"])


@contextmanager
def interrupted_after(count, monkeypatch):
    """Press Ctrl-C when so many answers are kept; the block has to end by it."""
    keep, kept = answers.Journal.keep, []

    def interrupted(self, piece, result):
        if len(kept) == count:
            raise KeyboardInterrupt
        kept.append(piece)
        keep(self, piece, result)

    with monkeypatch.context() as patched:
        patched.setattr(answers.Journal, "keep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize(
    ("rows", "after"), [("dataset", 1), ("dataset", 5), ("dataset", 14), ("dataset", 20), ("eleven", 37)]
)
def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_bytes(
    adapter, rows, monkeypatch, tmp_path, after, request
):
    dataset = request.getfixturevalue(rows)
    measure(adapter, dataset, output=tmp_path / "whole")
    with interrupted_after(after, monkeypatch):
        measure(adapter, dataset, output=tmp_path / "report")
    assert not (tmp_path / "report").exists()
    notes = []
    measure(adapter, dataset, output=tmp_path / "report", note=notes.append)
    assert written(tmp_path / "report") == written(tmp_path / "whole")
    assert f"{after} answers are kept" in notes[0]
    assert not list(tmp_path.glob("*-evaluation.jsonl"))


def test_an_adapter_with_centroids_identifies_by_them_and_by_likelihood_beside(adapter, dataset, tmp_path):
    import torch
    from safetensors.torch import save_file

    before = measure(adapter, dataset, output=tmp_path / "before", baselines=[])
    peft_model, tokenizer, _ = adapters.load_adapter(adapter)
    rows, states = read_split(dataset, "test"), {}
    for row in rows:
        ids = torch.tensor([chat.prompt_ids(tokenizer, row["messages"][:-1])])
        with torch.no_grad():
            states[answer_of(row)] = peft_model(ids, output_hidden_states=True).hidden_states[-1][0, -1]
    # Each for the other; no other answer was learnt.
    write_json(adapter / "answers.json", ["Squirtle", "Vulpix"])
    save_file({"centroids": torch.stack([states["Vulpix"], states["Squirtle"]])}, adapter / "centroids.safetensors")
    evaluation = measure(adapter, dataset, output=tmp_path / "report", baselines=[])
    methods = evaluation["test"]["methods"]
    assert list(methods) == ["adapter", "adapter, by likelihood"]
    likelihood = {name: figure for name, figure in before["test"]["methods"]["adapter"].items() if name != "exact"}
    assert methods["adapter, by likelihood"] == likelihood
    made = predictions.read_predictions(tmp_path / "report" / "predictions.parquet")[:3]
    assert [(one.answer, one.top[0], one.rank.mean) for one in made if one.answer != "Pikachu"] == [
        ("Vulpix", "Squirtle", 2),
        ("Squirtle", "Vulpix", 2),
    ]
    assert [one.rank for one in made if one.answer == "Pikachu"] == [(3, 1)]
    cosine = torch.cosine_similarity(states["Vulpix"], states["Squirtle"], dim=0)
    shares = (20 * torch.stack([torch.ones(()), cosine])).softmax(0)
    assert made[0].confidence == pytest.approx(float(shares[0]), abs=1e-4)
    write_json(adapter / "answers.json", ["Somebody", "Else"])
    other = measure(adapter, dataset, output=tmp_path / "other", baselines=[])
    assert other["test"] == before["test"]


def test_a_name_is_placed_among_ten_descriptions_by_how_likely_each_makes_it(adapter, eleven):
    asked = predictions.read_rows(eleven, recipe("pokepicker/tiny-gemma").evaluation)
    tens = predictions.tens_of([answer_of(row) for row in asked.unseen], 7)
    evaluation = measure(adapter, eleven, baselines=["base"])
    assert ["fits" in figures for figures in evaluation["unseen"]["methods"].values()] == [True, True, False]
    peft_model, tokenizer, _ = adapters.load_adapter(adapter)
    made = predictions.read_predictions(adapter / "predictions.parquet")
    for first in (0, 11):
        for ten in tens:
            prompts = [chat.prompt_ids(tokenizer, asked.unseen[row]["messages"][:-1]) for row in ten.questions]
            for row in ten.asked:
                one = made[first + row]
                ids = rank.encode_answers(tokenizer, one.names)
                scores = [rank.log_likelihoods(peft_model, prompt, ids) for prompt in prompts]
                own = ten.questions.index(row)
                assert [fit.mean for fit in one.fits] == [
                    1 + sum(other[name] > scores[own][name] for other in scores) for name in range(len(one.names))
                ]


def test_the_halves_of_unseen_are_every_second_family_and_both_have_figures(adapter, eleven, dataset):
    asked = predictions.read_rows(eleven, recipe("pokepicker/tiny-gemma", evaluation__max_unseen=10).evaluation)
    place = {name: number for number, name in enumerate(sorted(CREATURES))}
    assert asked.tuning == [place[answer_of(row)] % 2 == 0 for row in asked.unseen]
    unseen = measure(adapter, eleven, baselines=[])["unseen"]
    assert {half: methods["adapter"]["names"] for half, methods in unseen["halves"].items()} == {
        "tuning": 18,
        "final": 15,
    }
    whole, halves = unseen["methods"]["adapter"], [half["adapter"] for half in unseen["halves"].values()]
    assert whole["fits"]["value"] == pytest.approx(sum(half["fits"]["value"] * half["names"] for half in halves) / 33)
    assert "halves" not in measure(adapter, dataset, baselines=[], restart=True)["unseen"]


@pytest.mark.parametrize("rows", [10, 11, 25, 96])
def test_every_row_is_once_among_ten_different_creatures(rows):
    creatures = [str(row % 16 if rows == 96 else row % 11) for row in range(rows)]
    tens = predictions.tens_of(creatures, 7, first=100)
    assert sorted(row for ten in tens for row in ten.asked) == list(range(100, 100 + rows))
    for ten in tens:
        assert set(ten.asked) <= set(ten.questions)
        assert len({creatures[row - 100] for row in ten.questions}) == len(ten.questions) == 10
    assert tens == predictions.tens_of(creatures, 7, first=100)
    assert predictions.tens_of(creatures[:9], 7) == []


def interrupt(monkeypatch, *measured, schema=evaluate.SCHEMA, **how):
    """Stop an evaluation after the models have answered."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "baseline_predictions", interrupted)
        patched.setattr(evaluate, "SCHEMA", schema)
        with pytest.raises(KeyboardInterrupt):
            measure(*measured, **how)


def test_an_interrupted_evaluation_with_other_settings_or_of_another_version_is_never_taken_over(
    adapter, dataset, monkeypatch
):
    notes = []
    other = recipe("pokepicker/tiny-gemma", decoding__temperature=0.2)
    interrupt(monkeypatch, adapter, dataset)
    with pytest.raises(InputError, match="interrupted evaluation of other"):
        measure(adapter, dataset, other)
    measure(adapter, dataset, other, restart=True, note=notes.append)
    interrupt(monkeypatch, adapter, dataset, schema=evaluate.SCHEMA - 1, restart=True)
    measure(adapter, dataset, restart=True, note=notes.append)
    assert not notes


def test_a_finished_evaluation_is_replaced_by_its_like_or_by_a_restart_and_a_card_edited_by_hand_stays(
    adapter, dataset, monkeypatch
):
    (adapter / "README.md").write_text("Mine.\n")
    notes = []
    measure(adapter, dataset, baselines=[], note=notes.append)
    assert notes == ["README.md was edited by hand and stays as it is; delete it to have one with these figures."]
    before = written(adapter)
    there = read_json(adapter / "evaluation.json")
    # Version 0.4 had no such setting.
    del there["settings"]["evaluation"]["selected_on"]
    write_json(adapter / "evaluation.json", there)
    measure(adapter, dataset, baselines=[])
    other = recipe("pokepicker/tiny-gemma", evaluation__max_test=1)
    said = r"\(other settings\): 8 steps, evaluated \(top-1 of test [\d.]+%\), README.md changed"
    with pytest.raises(InputError, match=said):
        measure(adapter, dataset, other, baselines=[])
    assert written(adapter) == before
    # A restart that was interrupted goes on without being asked for again.
    interrupt(monkeypatch, adapter, dataset, other, baselines=[], restart=True)
    assert measure(adapter, dataset, other, baselines=[])["test"]["rows"] == 1
    assert (adapter / "README.md").read_text() == "Mine.\n"
    assert set(read_manifest(adapter, "adapter")["edited_cards"]) == {"README.md"}
    assert "Mine" not in (adapter / "README.ko.md").read_text()


def change_config(adapter):
    config = read_json(adapter / "adapter_config.json")
    write_json(adapter / "adapter_config.json", config | {"lora_alpha": 4 * config["lora_alpha"]})


def add(file, text):
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


CHANGES = {
    "configuration": change_config,
    "chat template": lambda adapter: add(adapter / "chat_template.jinja", "{# other #}"),
    "tokenizer": lambda adapter: add(adapter / "tokenizer.json", "\n"),
    "weights": lambda adapter: scale(adapter, 0.5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_answers_of_another_model_are_never_taken_over(adapter, dataset, monkeypatch, tmp_path, change):
    interrupt(monkeypatch, adapter, dataset, output=tmp_path / "report")
    change(adapter)
    with pytest.raises(InputError, match="interrupted evaluation of other"):
        measure(adapter, dataset, output=tmp_path / "report")
    again = measure(adapter, dataset, output=tmp_path / "report", restart=True)
    assert again == measure(adapter, dataset, output=tmp_path / "whole")


def test_a_base_that_moved_on_is_another_model(adapter, monkeypatch, tmp_path):
    config = read_json(adapter / "adapter_config.json")
    write_json(adapter / "adapter_config.json", config | {"base_model_name_or_path": "owner/base", "revision": None})
    found = set()
    for commit in ("a" * 40, "b" * 40):
        moved = base.LocatedBase("owner/base", commit, tmp_path)
        monkeypatch.setattr(base, "locate_base", lambda *_, moved=moved, **__: moved)
        found.add(adapters.answers_hash(adapter, "none"))
    assert len(found) == 2


def test_what_steps_write_beside_an_adapter_makes_no_other_model_of_it(adapter, dataset, tmp_path):
    before = adapters.answers_hash(adapter, "none")
    evaluation = measure(adapter, dataset, baselines=[])
    assert evaluation["adapter"]["identity"] == adapters.answers_hash(adapter, "none") == before


def test_predictions_of_another_version_are_refused_not_read_as_these(adapter, dataset):
    measure(adapter, dataset, baselines=[])
    file = adapter / "predictions.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(file).drop_columns(["tied"]), file)
    with pytest.raises(InputError, match="written by another version"):
        predictions.read_predictions(file)


def test_predictions_of_0_4_are_read(adapter, dataset):
    measure(adapter, dataset, baselines=[])
    file = adapter / "predictions.parquet"
    made = predictions.read_predictions(file)
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(file).drop_columns(["fit_places", "fit_tied"]), file)
    assert predictions.read_predictions(file) == made


def test_weights_that_are_numbers_and_far_too_large_are_one_clear_error(adapter, dataset, tmp_path):
    scale(adapter, 1e30)
    for output in (None, tmp_path / "report"):
        with pytest.raises(InputError, match="NaN or infinite"):
            measure(adapter, dataset, output=output)


def test_the_manifest_still_says_how_it_was_trained(adapter, dataset):
    before = read_manifest(adapter, "adapter")
    measure(adapter, dataset)
    after = read_manifest(adapter, "adapter")
    assert after["evaluation_precision"] == {"base": "none", "compute": "float32"}
    kept = ("recipe", "base", "dataset", "steps", "training_libraries")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert set(WITHOUT_TIMES) < set(after["files"])


def test_the_settings_that_were_used_are_what_card_and_verification_read(adapter, dataset):
    measure(
        adapter,
        dataset,
        recipe("pokepicker/tiny-gemma", decoding__temperature=0.2, evaluation__names_per_description=2),
    )
    used = read_manifest(adapter, "adapter")["recipe"]
    assert used["decoding"]["temperature"] == 0.2
    assert used["evaluation"]["names_per_description"] == 2
    assert "temperature=0.2" in (adapter / "README.md").read_text(encoding="utf-8")


def test_a_report_elsewhere_leaves_the_adapter_as_it_is(adapter, dataset, tmp_path):
    before = file_hashes(adapter)
    report = tmp_path / "reports" / "one"
    measure(adapter, dataset, output=report)
    assert file_hashes(adapter) == before
    assert set(WITHOUT_TIMES) < set(file_hashes(report))
    assert (report / "figures" / "accuracy.png").is_file()
    assert [file.name for file in report.parent.iterdir()] == ["one"]


def test_an_adapter_of_another_trainer_is_measured_into_a_report(adapter, dataset, tmp_path):
    for name in ("manifest.json", "answers.json", "README.md", "training_log.jsonl"):
        (adapter / name).unlink()
    assert measure(adapter, dataset, output=tmp_path / "report")["test"]["rows"] == 3
    with pytest.raises(InputError, match=r"manifest\.json"):
        measure(adapter, dataset)


def test_another_adapter_is_compared_on_the_same_rows(adapter, dataset, use_small_base, tmp_path):
    other = tmp_path / "elsewhere" / "adapter"
    train.train(dataset, other, recipe(use_small_base, training__max_steps=60))
    alone = measure(other, dataset, output=tmp_path / "alone")["test"]["methods"]["adapter"]
    evaluation = measure(adapter, dataset, baselines=["tfidf"], against=[str(other)], output=tmp_path / "report")
    assert evaluation["test"]["methods"]["elsewhere/adapter"] == alone
    assert set(evaluation["test"]["differences"]) == {"elsewhere/adapter", "tfidf"}
    others = {"elsewhere/adapter", "elsewhere/adapter, new names"}
    assert set(evaluation["unseen"]["methods"]) == {"adapter", "adapter, new names", *others}
    assert str(tmp_path) not in (tmp_path / "report" / "evaluation.json").read_text()


def test_two_adapters_of_one_name_cannot_be_told_apart(adapter, dataset):
    with pytest.raises(InputError, match="Two of the adapters"):
        measure(adapter, dataset, baselines=[], against=[str(adapter), str(adapter)])


def test_a_dataset_with_nothing_to_measure_is_refused(tmp_path, adapter):
    only_train = write_dataset(tmp_path / "only-train", splits=("train",))
    with pytest.raises(InputError, match="no rows in test or unseen; its splits are"):
        measure(adapter, only_train)


@pytest.mark.parametrize(("splits", "missing"), [(("train", "test"), "unseen"), (("train", "unseen"), "test")])
def test_a_split_that_is_not_there_is_not_measured(tmp_path, adapter, splits, missing):
    evaluation = measure(adapter, write_dataset(tmp_path / "part", splits=splits))
    assert evaluation[missing] is None
    assert evaluation[{"test": "unseen", "unseen": "test"}[missing]]["rows"] == 3


def test_a_dataset_of_one_row(tmp_path, adapter, monkeypatch):
    monkeypatch.setattr("support.training.CREATURES", {"Vulpix": "a red fox with six tails"})
    evaluation = measure(adapter, write_dataset(tmp_path / "one", splits=("test",)))
    figure = evaluation["test"]["methods"]["adapter"]["top1"]
    assert figure["value"] == 1
    assert figure["low"] < 1
    assert evaluation["test"]["shuffled"] is None or evaluation["test"]["shuffled"]["reads"] is None


def test_an_adapter_of_another_tiny_base_is_refused(adapter, dataset, monkeypatch, tmp_path, small_base):
    import shutil

    other = shutil.copytree(small_base, tmp_path / "other-base")
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config + "\n")
    monkeypatch.setattr("toolkit.model.base.tiny_base_folder", lambda: other)
    with pytest.raises(InputError, match="trained on the tiny base of another version"):
        measure(adapter, dataset)


def test_card_templates_of_ones_own_take_the_place_of_the_toolkits(adapter, dataset, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "limits.md.jinja").write_text("Only for {{ title }}.\n")
    measure(adapter, dataset, baselines=[], templates=tmp_path / "mine")
    assert "Only for " in (adapter / "README.md").read_text(encoding="utf-8")
    assert read_manifest(adapter, "adapter")["card_templates"]
    (tmp_path / "mine" / "limits.md.jinja").write_text("{{ nothing_of_that_name }}\n")
    with pytest.raises(InputError, match=r"limits\.md\.jinja.*nothing_of_that_name"):
        measure(adapter, dataset, baselines=[], templates=tmp_path / "mine")


FIRE = {"types": ["fire"], "generation": 1}
ATTRIBUTES = {
    "structs": ([FIRE, FIRE, None], [json.dumps(FIRE), json.dumps(FIRE), "{}"]),
    "JSON texts": ([json.dumps(FIRE), '{"name": "여우"}', ""], [json.dumps(FIRE), '{"name": "여우"}', "{}"]),
    "plain texts and other JSON": (["fire", "not json {", "[1]"], ["{}"] * 3),
    "lists": ([["fire"], [], None], ["{}"] * 3),
    "nothing": (pyarrow.nulls(3), ["{}"] * 3),
}


@pytest.mark.parametrize(("given", "kept"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_attributes_are_taken_in_any_form(adapter, dataset, monkeypatch, given, kept):
    monkeypatch.setattr("toolkit.evaluation.identification.SMALLEST_GROUP", 1)
    evaluation = measure(adapter, with_columns(dataset, attributes=given), baselines=[])
    made = predictions.read_predictions(adapter / "predictions.parquet")
    assert [one.attributes for one in made] == kept * 3
    assert set(evaluation["test"]["groups"]) == set()


def test_attributes_of_a_struct_make_groups(adapter, dataset, monkeypatch):
    monkeypatch.setattr("toolkit.evaluation.identification.SMALLEST_GROUP", 1)
    water = {"types": ["water"], "generation": 1}
    evaluation = measure(adapter, with_columns(dataset, attributes=[FIRE, water, water]), baselines=[])
    assert {kind: list(groups) for kind, groups in evaluation["test"]["groups"].items()} == {"type": ["fire", "water"]}


@pytest.mark.parametrize("ids", [[None] * 3, ["a"] * 3, [0, 0, None]], ids=["none", "one", "numbers"])
def test_rows_without_an_id_of_their_own_are_rows_of_their_own(adapter, dataset, ids):
    plain = measure(adapter, dataset, baselines=[])
    dataset = with_columns(dataset, id=pyarrow.array(ids, pyarrow.int64() if 0 in ids else pyarrow.string()))
    again = measure(adapter, dataset, baselines=[], restart=True)
    assert again["unseen"]["methods"]["adapter"]["rows"] == 3
    assert {key: again[key] for key in ("test", "unseen")} == {key: plain[key] for key in ("test", "unseen")}


@pytest.mark.parametrize("column", ["name_en", "name_ko"])
@pytest.mark.parametrize("names", [[3, 4, None], [["Vulpix"], ["Mew", "Abra"], None]], ids=["numbers", "lists"])
def test_other_names_that_are_no_texts_are_no_names(dataset, column, names):
    settings = recipe("pokepicker/tiny-gemma").evaluation
    asked = predictions.read_rows(with_columns(dataset, **{column: names}), settings)
    assert asked.names == asked.candidates


def test_a_creature_may_be_number_zero_and_where_none_is_named_it_is_the_answer(dataset):
    settings = recipe("pokepicker/tiny-gemma").evaluation
    assert predictions.read_rows(with_columns(dataset, creature=[0, 0, 1]), settings).creatures == ["0", "0", "1"]
    (file,) = dataset.files()["test"]
    table = pyarrow.parquet.read_table(file).drop_columns(["creature"])
    pyarrow.parquet.write_table(table.append_column("creature", pyarrow.array(["x", "", None])), file)
    assert predictions.read_rows(dataset, settings).creatures == ["x", "Squirtle", "Pikachu"]


@pytest.mark.parametrize("split", ["test", "unseen"])
def test_a_row_that_the_model_cannot_read_whole_is_named_before_anything_is_measured(adapter, tmp_path, split):
    dataset = write_dataset(tmp_path / "long", splits=("train", "test", "unseen"))
    (file,) = dataset.files()[split]
    lines = pyarrow.parquet.read_table(file).to_pylist()
    lines[1]["messages"] = with_answer(chat.naming_messages("A blue turtle. " * 300), "Squirtle")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines), file)
    told = []
    with pytest.raises(InputError, match=rf"row 1 of {split} is too long: .* tokens, and the model reads 512"):
        measure(adapter, dataset, output=tmp_path / "report", progress=lambda *where: told.append(where))
    assert told == []
    assert not list(tmp_path.glob("report*"))


def test_another_base_is_measured_in_a_report_that_says_which(adapter, dataset, tmp_path, small_base):
    folder = shutil.copytree(small_base, tmp_path / "secret" / "copy")
    with pytest.raises(InputError, match=r"are those on the base that it names.*`output` for the report on another"):
        measure(adapter, dataset, base=str(folder))
    named = measure(adapter, dataset, output=tmp_path / "named", baselines=[])
    given = measure(adapter, dataset, output=tmp_path / "given", baselines=[], base=str(folder))
    assert given["adapter"].pop("base") == {"id": "copy", "revision": None}
    assert "base" not in named["adapter"]
    assert given["test"]["methods"] == named["test"]["methods"]
    assert str(tmp_path) not in (tmp_path / "given" / "evaluation.json").read_text()


def test_workers_of_ray_give_the_same_bytes_and_keep_what_is_finished(
    ray_cluster, adapter, dataset, small_base, tmp_path, monkeypatch
):
    how = {"base": str(small_base), "baselines": ["tfidf"]}
    measure(adapter, dataset, output=tmp_path / "local", **how)
    with interrupted_after(4, monkeypatch):
        measure(adapter, dataset, output=tmp_path / "ray", engine="ray", **how)
    notes = []
    measure(adapter, dataset, output=tmp_path / "ray", engine="ray", note=notes.append, **how)
    assert notes == ["Continuing an interrupted evaluation: 4 answers are kept."]
    assert written(tmp_path / "ray") == written(tmp_path / "local")
