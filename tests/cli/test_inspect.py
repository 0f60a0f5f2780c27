"""`pkt inspect`: one page that 80 columns hold, the same as JSON, and an exit code for scripts."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from support.adapters import make_adapter, scale
from support.hub import endpoint  # noqa: F401 (a fixture)
from toolkit import cli
from toolkit.core.layout import TINY_BASE_ID

MESSAGES = [
    {"role": "user", "content": "Name it.\n\n꼬리가 여섯인 뷁여우."},
    {"role": "assistant", "content": "Vulpix"},
]


@pytest.fixture
def adapter(tmp_path, small_base, use_small_base):
    return make_adapter(tmp_path / "adapter", small_base)


@pytest.fixture
def dataset(tmp_path, use_small_base):
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"messages": MESSAGES}]), folder / "data" / "train-0.parquet"
    )
    return folder


@pytest.fixture
def inspect(monkeypatch):
    """Runs the command in a terminal of 80 columns."""
    monkeypatch.setattr("toolkit.cli.process.prepare", lambda *_, **__: None)
    monkeypatch.setattr("toolkit.core.hub_client.use_hub", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: CliRunner().invoke(cli.main, ["inspect", *map(str, arguments)])


def test_a_sound_adapter_is_one_page_and_the_same_facts_as_json(inspect, adapter):
    shown = inspect(adapter)
    assert shown.exit_code == 0, shown.stderr
    page = shown.stderr
    for said in (
        "kind LORA",
        "r 2",
        f"named {TINY_BASE_ID}",
        "as trained on",
        "greedy answers",
        "pkt merge",
        "is sound.",
    ):
        assert said in page
    assert max(map(cell_len, page.split("\n")[:-2])) <= 80
    assert "✗" not in page
    found = json.loads(inspect(adapter, "--json").stdout)
    assert found["ok"] is True
    assert found["sections"]["adapter"]["facts"]["r"] == 2
    assert found["sections"]["fit"]["facts"]["complete"] is True


def test_a_broken_adapter_exits_1_with_the_reason_last(inspect, adapter):
    scale(adapter, 0)
    shown = inspect(adapter)
    assert shown.exit_code == 1
    assert "changes nothing: with it" in shown.stderr
    assert shown.stderr.endswith(f"{adapter} is broken.\n")
    assert json.loads(inspect(adapter, "--json").stdout)["ok"] is False


def test_what_others_wrote_commands_no_terminal(inspect, adapter):
    (adapter / "README.md").write_text('---\nlicense: "[red]\\u001b[31m mine"\n---\n')
    page = inspect(adapter, "--no-weights").stderr
    assert "license [red]\\x1b[31m mine" in page
    assert page.endswith("is not broken in what was looked at; not known: change.\n")


def test_a_row_shows_its_tokens_and_which_are_learnt(inspect, dataset):
    shown = inspect(dataset, "--row", 0)
    assert shown.exit_code == 0, shown.stderr
    lines = shown.stderr.strip().split("\n")
    assert lines[0] == "The dataset dataset: train 1."
    assert max(map(cell_len, lines[2:])) <= 80
    assert "뷁×3" in shown.stderr
    assert lines[-1].replace("│", "") == "▶ Vulpix<end_of_turn>"
    found = json.loads(inspect(dataset, "--json").stdout)
    assert sum(len(piece["ids"]) for piece in found["pieces"] if piece["supervised"]) == found["supervised"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 2, "no adapter folder nowhere"),
        (["."], 2, "such as ./adapter."),
        (["empty"], 2, "empty holds no adapter (no adapter_config.json). "),
        (["adapter", "--row", "0"], 2, "adapter"),
        (["dataset", "--row", "7"], 2, "no row 7"),
        (["dataset", "--split", "rare"], 2, "in its split rare"),
    ],
)
def test_what_cannot_be_shown_is_one_line(inspect, adapter, dataset, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    shown = inspect(*arguments)
    assert (shown.exit_code, shown.stderr.count("\n")) == (code, 1)
    assert said in shown.stderr


@pytest.fixture
def pushed(tmp_path, adapter, dataset, monkeypatch, endpoint):  # noqa: F811
    from huggingface_hub import HfApi

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for config in ("en", "ko"):
        (tmp_path / "several" / config).mkdir(parents=True)
        (tmp_path / "several" / config / "train.jsonl").write_text("{}")
    datasets = [
        ("dataset", dataset, "both"),
        ("dataset", dataset, "rows"),
        ("dataset", tmp_path / "several", "several"),
    ]
    for kind, folder, repo in (("model", adapter, "both"), *datasets):
        HfApi(endpoint=endpoint).create_repo(f"u/{repo}", repo_type=kind)
        HfApi(endpoint=endpoint).upload_folder(repo_id=f"u/{repo}", repo_type=kind, folder_path=folder)


@pytest.mark.usefixtures("pushed")
def test_of_the_hub_an_id_is_its_adapter_or_else_its_dataset(inspect):
    assert json.loads(inspect("u/both", "--no-weights", "--json").stdout)["sections"]["adapter"]["facts"]["revision"]
    assert json.loads(inspect("u/both", "--row", 0, "--json").stdout)["row"] == 0
    assert json.loads(inspect("u/rows", "--json").stdout)["id"] == "u/rows"
    assert "u/several has several configs: en, ko." in inspect("u/several").stderr
    missing = inspect("u/nothing")
    assert missing.exit_code == 4
    assert "u/nothing does not exist" in missing.stderr
