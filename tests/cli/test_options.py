"""Errors and notes of library code name Python arguments and settings; the command line shows its options instead."""

import click
import pytest
from click.testing import CliRunner

from toolkit import cli
from toolkit.cli.options import with_options
from toolkit.core.errors import InputError


@pytest.mark.parametrize(
    ("command", "text", "shown"),
    [
        ("train", "Raise `training.max_length`.", "Raise --max-length."),
        ("train", "Give `lora.r` and `max_steps`.", "Give --lora-r and --max-steps."),
        ("train", 'Set `training.quantization="none"`.', "Set --quantization none."),
        ("train", "Set `training.micro_batch_size = 4`.", "Set --micro-batch-size 4."),
        ("train", "Give `restart=True`.", "Give --restart."),
        ("validate", "Raise `max_length`.", "Raise --max-length."),
        ("publish", "Give `overwrite_card`.", "Give --overwrite-card."),
        ("publish", "Raise `training.max_length`.", "Raise `training.max_length`."),
        ("train", "Set `evaluation.quantization`.", "Set `evaluation.quantization`."),
        ("train", "Run `pkt evaluate` on `messages`.", "Run `pkt evaluate` on `messages`."),
    ],
)
def test_a_name_in_backticks_is_the_option_of_the_running_command(command, text, shown):
    assert with_options(text, click.Context(cli.main.commands[command])) == shown


def test_an_error_names_the_options_of_the_command_that_ran(monkeypatch):
    def fail(*_):
        raise InputError("No `endpoint`.", "Give `adapter_revision`.")

    monkeypatch.setattr("toolkit.core.hub_client.use_hub", fail)
    assert CliRunner().invoke(cli.main, ["doctor"]).output == "Error: No --endpoint. Give `adapter_revision`.\n"
    assert "Give --adapter-revision" in CliRunner().invoke(cli.main, ["evaluate", "a", "d"]).output


def test_a_note_names_them_too(capsys):
    from toolkit.cli import output

    with click.Context(cli.main.commands["train"]):
        output.say("`training.quantization` is none.")
    assert capsys.readouterr().err == "--quantization is none.\n"
