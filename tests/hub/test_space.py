"""A Space: its folder names one adapter at one commit, and its page, alone, answers as the toolkit does."""

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
import yaml
from huggingface_hub import HfApi

from support.adapters import DESCRIPTIONS
from support.paths import ROOT
from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import read_json, write_json, write_jsonl
from toolkit.core.layout import DISCOUNT
from toolkit.core.recipe import load_recipe
from toolkit.hub import publish
from toolkit.hub.local.serve import running_hub
from toolkit.hub.space import app as page
from toolkit.hub.space.folder import GRADIO, requirements, write_space
from toolkit.model import adapter as adapters
from toolkit.model import centroids, chat, naming, new_names, rank
from toolkit.model.prompts import in_columns

SPACE_FILES = ("README.md", "app.py", "requirements.txt", "space.json", "manifest.json")


@pytest.fixture
def published(adapter, tmp_path, monkeypatch):
    """The adapter on a Hub, as owner/names."""
    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        api = HfApi(endpoint=url)
        api.create_repo("owner/names")
        api.create_repo("owner/other")
        api.upload_folder(repo_id="owner/names", folder_path=adapter)
        yield api


def as_trained(folder):
    """What training puts in a manifest, which the small adapter lacks."""
    manifest = read_json(folder / "manifest.json")
    tokens = {"stop_tokens": ["<end_of_turn>", "<eos>"], "request": chat.REQUEST}
    write_json(folder / "manifest.json", manifest | tokens)
    write_json(folder / "answers.json", ["Squirtle", "Vulpix", "A", "가나다", "Ninetales of the hills"])
    return folder


def test_the_folder_is_a_space_that_names_the_adapter_at_its_commit(published, tmp_path):
    write_space("owner/names", None, tmp_path / "space")
    assert sorted(file.name for file in (tmp_path / "space").iterdir()) == sorted(SPACE_FILES)
    commit = published.model_info("owner/names").sha
    assert read_json(tmp_path / "space" / "space.json") == {"adapter": "owner/names", "revision": commit}
    card = (tmp_path / "space" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["models"] == ["owner/names"]
    assert (front["sdk"], front["sdk_version"], front["app_file"]) == ("gradio", GRADIO, "app.py")
    assert front["license"] == "mit"
    assert front["python_version"] == ".".join(map(str, sys.version_info[:2]))
    assert front["datasets"] == ["owner/creatures"]
    assert commit in card
    assert str(tmp_path) not in card


def test_the_same_adapter_gives_the_same_bytes(published, tmp_path):
    for name in ("one", "two"):
        write_space("owner/names", "main", tmp_path / name)
    for name in SPACE_FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_it_is_published_as_a_space_that_everybody_sees_and_only_when_it_changed(published, tmp_path):
    commit = published.model_info("owner/names").sha
    names = publish.Published("owner/names", commit, "url", changed=True)
    done = publish.publish_space(names, "owner/page", tmp_path / "space")
    assert done.space.endswith("/spaces/owner/page")
    there = set(published.list_repo_files("owner/page", repo_type="space"))
    assert there - {".gitattributes"} == set(SPACE_FILES)
    info = published.space_info("owner/page")
    assert not info.private
    publish.publish_space(names, "owner/page", tmp_path / "space")
    assert published.space_info("owner/page").sha == info.sha


def test_versions_are_pinned_to_those_that_are_tested():
    pinned = dict(line.split("==") for line in requirements().split())
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split("\n") if "==" in line)
    assert pinned == {name: constraints[name] for name in ("torch", "transformers", "peft")}
    assert constraints["gradio"] == GRADIO


def test_the_page_is_the_one_of_the_toolkit_and_imports_nothing_of_it(published, tmp_path):
    write_space("owner/names", None, tmp_path / "space")
    code = (tmp_path / "space" / "app.py").read_text(encoding="utf-8")
    assert code == (files("toolkit.hub.space") / "app.py").read_text(encoding="utf-8")
    alone = f"import sys; sys.path.insert(0, {str(tmp_path / 'space')!r}); import app; print('toolkit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", alone], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_pkt_did_not_publish_is_refused_and_what_is_not_there_is_said_to_be_missing(published, tmp_path):
    with pytest.raises(InputError, match="was not published by pkt"):
        write_space("owner/other", None, tmp_path / "space")
    with pytest.raises(HubError):
        write_space("owner/missing", None, tmp_path / "space")
    assert not (tmp_path / "space").exists()


def test_a_folder_of_something_else_is_not_replaced(published, adapter):
    with pytest.raises(InputError, match="not a space folder that pkt wrote"):
        write_space("owner/names", None, adapter)


@pytest.fixture
def loaded(adapter, small_base, monkeypatch):
    """The adapter as the page loads it: with peft, by what its configuration names as its base."""
    folder = as_trained(adapter)
    config = read_json(folder / "adapter_config.json")
    copied = shutil.copytree(folder, folder.with_name("copied"))
    write_json(copied / "adapter_config.json", config | {"base_model_name_or_path": str(small_base)})
    return page.load(copied)


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_alone_the_page_sends_and_ranks_what_the_toolkit_does(adapter, loaded, description):
    peft_model, tokenizer, _ = adapters.load_adapter(adapter)
    prompt = chat.prompt_ids(tokenizer, chat.naming_messages(description))
    assert page._ids(loaded, page._prompt(loaded, description)) == prompt
    candidates = rank.encode_answers(tokenizer, loaded.known)
    expected = rank.log_likelihoods(peft_model, prompt, candidates)
    assert page.log_likelihoods(loaded.model, prompt, candidates) == pytest.approx(expected, abs=1e-3)
    total = math.log(sum(math.exp(score - max(expected)) for score in expected)) + max(expected)
    shares = {name: math.exp(score - total) for name, score in zip(loaded.known, expected, strict=True)}
    nearest = page.answer(loaded, description, 0).nearest
    assert [share for _, share in nearest] == pytest.approx(sorted(shares.values(), reverse=True)[:3], abs=1e-4)
    assert dict(nearest) == pytest.approx({name: shares[name] for name, _ in nearest}, abs=1e-4)


def test_alone_the_page_ranks_by_centroids_as_the_toolkit_does(adapter, loaded):
    held = torch.randn(len(loaded.known), loaded.model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    centroids.write_centroids(adapter, centroids.Centroids(loaded.known, held))
    found = page.answer(replace(loaded, centroids=held), DESCRIPTIONS[0], 0).nearest
    expected = [(one.name, one.probability) for one in naming.identify(adapter, DESCRIPTIONS[0], 3).candidates]
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert [share for _, share in found] == pytest.approx([share for _, share in expected], abs=1e-4)


def test_alone_the_page_draws_what_the_toolkit_draws(adapter, loaded):
    peft_model, tokenizer, _ = adapters.load_adapter(adapter)
    decoding = load_recipe("demo").decoding
    asked = in_columns(peft_model, [chat.prompt_ids(tokenizer, chat.naming_messages(DESCRIPTIONS[0]))])
    known = new_names.known_names(tokenizer, loaded.known)
    (drawn,) = new_names.sample_new(asked, tokenizer, decoding, page.CHOICE * page.NAMES, [7], known)
    ended = [each.name for each in drawn if each.stopped and each.name]
    assert page._draw(loaded, page._prompt(loaded, DESCRIPTIONS[0]), 7) == list(dict.fromkeys(ended))
    assert (page.CHOICE, page.DISCOUNT) == (naming.CHOICE, DISCOUNT)


def test_alone_the_page_gives_new_names_of_the_form_of_names_the_fitting_ones_first(loaded, monkeypatch):
    told = replace(loaded, known=["Squirtle", "식스테일"], taken=["Squirtle", "식스테일", "Moonpetal"])
    known, babble = ["SQUIRTLE", "Squirtlee", "Moonpetal", "식스테이"], ["bababa", "Xxxxx"]
    said = [*known, *babble, "Flamora", "Flamorra", "불여우", "Emberling"]
    monkeypatch.setattr(page, "_draw", lambda *_: said)
    prompt = page._prompt(told, "A fox.")
    monkeypatch.setattr(page, "_answers", lambda _, asked, names: [(asked == prompt, name) for name in names])
    likely = {(True, "Flamora"): -2, (False, "Flamora"): -3, (True, "불여우"): -9, (False, "불여우"): -19}
    monkeypatch.setattr(page, "log_likelihoods", lambda _, __, answers: [likely.get(answer, 0) for answer in answers])
    assert page._invent(told, "A fox.", 0) == ["불여우", "Flamora", "Emberling"]


@pytest.mark.parametrize(
    ("name", "other", "alike"),
    [
        *(("Vulpix", "vulpix", True), ("Vulpixx", "Vulpix", True), ("Vulix", "Vulpix", True)),
        *(
            ("Vulpax", "Vulpix", True),
            ("Ulpix", "Vulpix", True),
            ("Mr. Mime", "MrMime", True),
            ("피카츄", "피카추", True),
        ),
        *(("Volpax", "Vulpix", False), ("Red Vulpixon", "Vulpix", True), ("Mu", "Mew", False)),
        *(("파이리스", "이상해씨", False), ("Xulpixy", "Vulpix", False)),
    ],
)
def test_names_are_alike_but_for_one_letter_or_with_the_other_in_them(name, other, alike):
    assert page._alike(name, other) is page._alike(other, name) is alike


def test_a_control_token_is_a_problem_that_the_page_shows(loaded):
    with pytest.raises(page.Problem, match="Leave out <end_of_turn>"):
        page.answer(loaded, "A fox.<end_of_turn>", 0)


def test_candidates_in_several_batches_score_as_in_one(loaded, monkeypatch):
    prompt, candidates = [2, 9, 11], [[5, 6], [7], [8, 9, 10, 11], [12, 5], [6]]
    whole = page.log_likelihoods(loaded.model, prompt, candidates)
    monkeypatch.setattr(page, "BATCH", 2)
    assert page.log_likelihoods(loaded.model, prompt, candidates) == pytest.approx(whole, abs=1e-4)


def test_an_adapter_without_known_names_has_no_nearest_ones(loaded):
    assert page.answer(replace(loaded, known=[]), "A fox.", 0).nearest == []


def test_examples_come_from_the_samples_in_both_languages(tmp_path):
    texts = ["A fox.", "A hill.", "A pond.", "A moon.", "여우.", "달."]
    write_jsonl(tmp_path / "samples.jsonl", [{"description": text} for text in texts])
    about = page.read_about(tmp_path, "names")
    assert about == page.About("names", ["A fox.", "A hill.", "A pond.", "여우.", "달."], "")


def test_what_was_measured_is_said(tmp_path):
    figures = {"rows": 1180, "methods": {"adapter": {"top1": {"value": 0.412}}}}
    write_json(tmp_path / "evaluation.json", {"test": figures})
    assert "Of 1,180 descriptions it had never seen" in page.read_about(tmp_path, "names").measured
    assert "41%" in page.read_about(tmp_path, "names").measured
    write_json(tmp_path / "evaluation.json", {"test": None})
    assert page.read_about(tmp_path, "names").measured == ""


@pytest.mark.parametrize("text", ["", None, " \n\t "])
def test_an_empty_description_is_a_problem(text):
    with pytest.raises(page.Problem, match=r"Write a sentence.*한두 문장"):
        page.checked(text)


def test_a_long_description_is_a_problem_and_lines_become_one():
    with pytest.raises(page.Problem, match="2,001 characters"):
        page.checked("a" * 2001)
    assert page.checked(" A fox\nby a  pond ") == "A fox by a pond"


def test_what_a_model_writes_is_never_markup():
    assert "<b>" not in page.names_html(["<b>x</b>"])
