"""The command line: every verb has help and stands in the README, every known error is one line and an exit code."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from support.paths import ROOT
from toolkit import cli
from toolkit.core.errors import CheckFailed, EnvironmentLacks, HubError, InputError


def commands(group=cli.main, prefix=()):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command


VERBS = dict(commands())


def pkt(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "toolkit", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_CACHE": os.environ["HF_HUB_CACHE"], **environment},
    )


def test_all_verbs_are_there():
    assert {" ".join(path) for path in VERBS} == {
        "build-dataset", "validate", "push-dataset", "train", "evaluate", "publish", "verify", "name", "identify",
        "run", "preview", "hub serve", "doctor", "merge", "export", "inspect", "app", "serve", "base import",
        "completion",
    }  # fmt: skip


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_has_help_and_stands_in_the_documentation(path):
    result = CliRunner().invoke(cli.main, [*path, "--help"])
    assert result.exit_code == 0
    assert VERBS[path].help
    assert f"## pkt {' '.join(path)}" in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(path):
    result = CliRunner().invoke(cli.main, [*path, "--help"], terminal_width=80)
    assert max(len(line) for line in result.output.split("\n")) <= 80


def test_the_list_of_commands_fits_80_columns_and_says_all_of_each():
    output = CliRunner().invoke(cli.main, ["--help"], terminal_width=80).output
    assert max(len(line) for line in output.split("\n")) <= 80
    assert "..." not in output.partition("Options:")[2]
    assert {line.split()[0] for line in output.split("\n") if line.startswith("  ")} >= {path[0] for path in VERBS}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("tarin", "Did you mean 'train'?"),
        ("push", "Did you mean 'push-dataset'?"),
        ("hub serv", "Did you mean 'serve'?"),
        ("train data out --lerning-rate 1", "'--learning-rate'"),
        ("run dmeo out", "Did you mean demo?"),
        ("run demo out --set epochs=2", "did you mean training.epochs?"),
        ("run demo out --set trainin.epohcs=2", "did you mean training.epochs?"),
    ],
)
def test_what_is_misspelt_is_answered_with_the_nearest(typed, meant):
    result = CliRunner().invoke(cli.main, typed.split())
    assert result.exit_code == 2
    assert meant in result.stderr


def test_what_is_near_nothing_is_answered_with_nothing():
    result = CliRunner().invoke(cli.main, ["xyzzy"])
    assert result.stderr.endswith("Error: No such command 'xyzzy'.\n")


def when_it_starts(monkeypatch, do):
    """Let a command do this in place of choosing its Hub and silencing the libraries."""
    monkeypatch.setattr("toolkit.cli.process.silence", lambda: None)
    monkeypatch.setattr("toolkit.core.hub_client.use_hub", do)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckFailed("x.", "y."), 1),
        (InputError("x.", "y."), 2),
        (EnvironmentLacks("x.", "y."), 3),
        (HubError("x.", "y."), 4),
    ],
)
def test_each_kind_of_error_is_one_line_and_its_exit_code(monkeypatch, error, code):
    def fail(*_):
        raise error

    when_it_starts(monkeypatch, fail)
    result = CliRunner().invoke(cli.main, ["doctor"])
    assert (result.exit_code, result.output) == (code, "Error: x. y.\n")


def test_a_training_that_was_stopped_prints_the_command_that_continues_it(tmp_path, monkeypatch):
    from toolkit.data import dataset
    from toolkit.training import train

    def stop(*_, **__):
        raise train.Interrupted("Stopped at step 3.", "Run it again.")

    when_it_starts(monkeypatch, lambda *_: None)
    monkeypatch.setattr(dataset, "locate_dataset", lambda *_: None)
    monkeypatch.setattr(train, "train", stop)
    arguments = ["train", "my data", str(tmp_path / "adapter"), "--restart"]
    monkeypatch.setattr(sys, "argv", ["pkt", *arguments])
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 130
    assert result.stderr.endswith(f" train 'my data' {tmp_path}/adapter\n")


def test_an_interrupt_exits_130(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    when_it_starts(monkeypatch, interrupt)
    assert CliRunner().invoke(cli.main, ["doctor"]).exit_code == 130


def test_a_bug_is_one_line_with_the_traceback_in_a_file_and_no_secret_in_either(tmp_path):
    code = (
        "import sys; from toolkit import cli; from toolkit.core import hub_client as endpoint\n"
        "def fail(*_): raise RuntimeError('with hf_abcdefghijkl')\n"
        "endpoint.use_hub = fail\nsys.argv = ['pkt', 'doctor']\ncli.main()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == cli.BUG_EXIT_CODE
    assert result.stderr.count("\n") == 1
    (report,) = tmp_path.glob("pkt-bug-*.txt")
    assert "RuntimeError: with ***" in report.read_text()
    assert "hf_abc" not in result.stderr + report.read_text()


def test_the_installed_command_is_this_command_line():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="pkt")
    assert script.load() is cli.main


def assert_one_clear_line(result, code):
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().split("\n")
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")


def test_a_missing_folder(tmp_path):
    missing = tmp_path / "no"
    for arguments in (("validate", missing), ("train", missing, tmp_path / "out"), ("preview", missing)):
        assert_one_clear_line(pkt(*arguments), 2)


def test_a_table_without_the_column(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nA red fox with six tails.,Vulpix\n")
    result = pkt("build-dataset", tmp_path / "out", "--source", "table", "--from", tmp_path / "a.csv",
                 "--description-column", "description", "--name-column", "label")  # fmt: skip
    assert_one_clear_line(result, 2)
    assert "--description-column" in result.stderr
    assert "text" in result.stderr


def test_a_truncated_parquet_file(tmp_path):
    import pyarrow
    import pyarrow.parquet

    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["A fox."] * 1000, "name": ["Vulpix"] * 1000}), file)
    file.write_bytes(file.read_bytes()[:-100])
    result = pkt("build-dataset", tmp_path / "out", "--source", "table", "--from", file,
                 "--description-column", "text", "--name-column", "name")  # fmt: skip
    assert_one_clear_line(result, 2)
    assert not (tmp_path / "out").exists()


def test_an_unknown_base_is_named_with_the_hub_that_was_asked(tmp_path):
    from toolkit.hub.local.serve import running_hub

    assert pkt("build-dataset", tmp_path / "data").returncode == 0
    with running_hub(tmp_path / "hub") as url:
        result = pkt("train", tmp_path / "data", tmp_path / "out", "--base", "no/such", HF_ENDPOINT=url)
    assert_one_clear_line(result, 4)
    assert "no/such does not exist" in result.stderr


def test_a_hub_that_answers_503(tmp_path):
    from starlette.responses import Response

    from support.faults import faulty_hub

    with faulty_hub(tmp_path / "hub", lambda _: Response(status_code=503)) as url:
        result = pkt("verify", "demo/x", "--endpoint", url)
    assert_one_clear_line(result, 4)
    assert "503" in result.stderr


def test_a_hub_that_is_not_there():
    result = pkt("verify", "demo/x", "--endpoint", "http://127.0.0.1:9")
    assert_one_clear_line(result, 4)
    assert "cannot be reached" in result.stderr


def test_an_output_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    assert_one_clear_line(pkt("build-dataset", tmp_path / "file" / "out"), 2)
    assert_one_clear_line(pkt("run", "demo", tmp_path / "file" / "out"), 2)


@pytest.mark.parametrize("typed", [["run"], ["run", "demo"]])
def test_a_run_without_its_folder_is_told_both(typed):
    assert "recipe and a folder for the run" in CliRunner().invoke(cli.main, typed).output


def test_an_unknown_recipe_lists_the_known_ones(tmp_path):
    result = pkt("run", "dmeo", tmp_path / "out")
    assert_one_clear_line(result, 2)
    assert all(name in result.stderr for name in ("demo", "gemma-2b-t4", "seed-gemma-2b"))


def test_json_goes_to_standard_output_alone(tmp_path):
    result = pkt("build-dataset", tmp_path / "data", "--json")
    assert json.loads(result.stdout)["rows"]["train"] > 0
    result = pkt("validate", tmp_path / "data", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["ok"] is True


def test_an_error_is_one_line_whatever_names_it_holds(monkeypatch):
    def fail(*_):
        raise InputError("a\nb\x1b[31m \udcff 포켓몬.", "y.")

    when_it_starts(monkeypatch, fail)
    assert CliRunner().invoke(cli.main, ["doctor"]).output == "Error: a\\nb\\x1b[31m \\udcff 포켓몬. y.\n"


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_a_seed_that_no_generator_takes(seed):
    result = CliRunner().invoke(cli.main, ["name", "A fox.", "--adapter", "x", "--seed", seed])
    assert result.exit_code == 2
    assert "--seed" in result.output


def test_the_longest_conversation_is_the_validators_own_setting(tmp_path):
    assert pkt("build-dataset", tmp_path / "data").returncode == 0
    check = ("validate", tmp_path / "data", "--tokenizer", "pokepicker/tiny-gemma", "--json")
    assert pkt(*check).returncode == 0
    result = pkt(*check, "--max-length", 16)
    assert result.returncode == 1
    assert [finding["code"] for finding in json.loads(result.stdout)["findings"]] == ["tokens.length"]


def test_the_validator_downloads_no_weights(tmp_path, monkeypatch):
    from toolkit.data import validation

    asked = []

    def locate(base, weights):
        asked.append((base, weights))
        raise InputError("x.", "y.")

    when_it_starts(monkeypatch, lambda *_: None)
    monkeypatch.setattr(validation, "locate_base_to_load", locate)
    result = CliRunner().invoke(cli.main, ["validate", "data", "--tokenizer", "owner/base"])
    assert (result.exit_code, asked) == (2, [("owner/base", False)])


def test_an_adapter_whose_manifest_has_no_recipe(tmp_path):
    (tmp_path / "manifest.json").write_text('{"kind": "adapter", "toolkit": "0.1.0"}')
    (tmp_path / "adapter_config.json").write_text("{}")
    result = pkt("evaluate", tmp_path, tmp_path)
    assert_one_clear_line(result, 2)
    assert "holds no recipe" in result.stderr


@pytest.mark.parametrize("verbose", [True, False])
def test_verbose_lets_the_local_hub_speak_too(tmp_path, monkeypatch, verbose):
    from contextlib import nullcontext

    from toolkit.cli import process
    from toolkit.core import hub_client
    from toolkit.hub import publish
    from toolkit.hub.local import serve

    silenced = []
    monkeypatch.setattr(process, "silence", lambda: silenced.append(True))
    monkeypatch.setattr(hub_client, "use_hub", lambda *_: None)
    monkeypatch.setattr(publish, "push_tiny_base", lambda: None)
    monkeypatch.setattr(serve, "running_hub", lambda *_, **__: nullcontext("http://h"))
    monkeypatch.setattr(serve, "serve_forever", lambda *_, **__: None)
    options = ["--verbose"] if verbose else []
    assert CliRunner().invoke(cli.main, [*options, "hub", "serve", str(tmp_path)]).exit_code == 0
    assert bool(silenced) is not verbose


def test_a_proxy_that_is_no_url_is_a_finding_of_the_doctor():
    result = pkt("doctor", "--json", HTTP_PROXY="foo://x", HF_ENDPOINT="http://192.0.2.1", NO_PROXY="")
    assert result.returncode == 0, result.stderr
    assert {finding["what"]: finding["state"] for finding in json.loads(result.stdout)}["Hub"] == "missing"


def test_the_report_on_an_adapter_of_the_hub_needs_a_folder_of_its_own(tmp_path):
    result = pkt("evaluate", "owner/adapter", tmp_path)
    assert_one_clear_line(result, 2)
    assert "--output" in result.stderr


def test_an_unknown_baseline_is_named_with_those_there_are(tmp_path):
    (tmp_path / "manifest.json").write_text('{"kind": "adapter", "toolkit": "0.1.0", "recipe": {}}')
    (tmp_path / "adapter_config.json").write_text("{}")
    result = pkt("evaluate", tmp_path, tmp_path, "--recipe", "demo", "--baselines", "base,luck")
    assert_one_clear_line(result, 2)
    assert "'luck'" in result.stderr
    assert "tfidf_centroid" in result.stderr


def test_a_space_of_a_pull_request_is_refused(tmp_path):
    result = pkt("publish", tmp_path, "owner/names", "--space", "owner/page", "--create-pr")
    assert_one_clear_line(result, 2)
    assert "--private and --space" in result.stderr
