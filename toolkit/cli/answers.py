"""Commands that ask an adapter: name, identify."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click

from toolkit.cli import process
from toolkit.cli.group import PATH, Command, hub_options, json_option, main, start
from toolkit.core.errors import InputError


def question_options(command: Command) -> Command:
    """DESCRIPTION, `--from`, `--adapter` and `--candidates`."""
    for option in (
        click.option(
            "--candidates",
            type=PATH,
            metavar="FILE",
            help="Names of the known creatures, one a line, in the place of those that the adapter learnt.",
        ),
        click.option(
            "--from",
            "file",
            type=PATH,
            metavar="FILE",
            help="Descriptions, one a line; of a .jsonl file the `description` of each line. -: standard input.",
        ),
        click.option("--adapter", required=True, metavar="FOLDER|REPO_ID", help="The adapter that answers."),
        click.argument("description", required=False),
    ):
        command = option(command)
    return command


@main.command()
@question_options
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 100), help="How many names.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    help="The same seed draws the same names.",
)
@hub_options
@json_option
def name(
    description: str | None,
    adapter: str,
    file: Path | None,
    candidates: Path | None,
    count: int,
    seed: int,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Invent names for the creature in DESCRIPTION, in English or Korean.

    Without DESCRIPTION, descriptions are read from standard input, one a line. With --json, DESCRIPTION gives one
    object, and a file or standard input one object a line.

    Before each name stands the probability that the model answers exactly this, of all that it could say. Those of a
    few names do not add up to 100 %. The known creatures nearest to the description follow, as `pkt identify` finds
    them.
    """
    process.wait_asleep()
    start(endpoint, token_file)
    several, questions = _questions(description, file)
    from toolkit.cli import output
    from toolkit.cli.output import answers
    from toolkit.model import naming

    def answer(answerer: Any, text: str) -> None:
        with output.waiting() as progress:
            named = naming.name(answerer, text, count, seed, progress)
        answers.named(named, as_json, wanted=count, one_of_several=several)

    _ask(questions, lambda: _opened(adapter, candidates), answer)


@main.command()
@question_options
@click.option("--top", default=5, show_default=True, type=click.IntRange(1, 100), help="How many candidates.")
@hub_options
@json_option
def identify(
    description: str | None,
    adapter: str,
    file: Path | None,
    candidates: Path | None,
    top: int,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Say which known creature DESCRIPTION is about, in English or Korean.

    Without DESCRIPTION, descriptions are read from standard input, one a line. With --json, DESCRIPTION gives one
    object, and a file or standard input one object a line.

    Before each name stands its probability among all the names that the adapter learnt, or that --candidates gives.
    """
    process.wait_asleep()
    start(endpoint, token_file)
    several, questions = _questions(description, file)
    from toolkit.cli import output
    from toolkit.cli.output import answers
    from toolkit.model import naming

    def answer(answerer: Any, text: str) -> None:
        with output.waiting() as progress:
            identified = naming.identify(answerer, text, top, progress)
        answers.identified(identified, as_json, one_of_several=several)

    _ask(questions, lambda: _opened(adapter, candidates, to_identify=True), answer)


def _questions(description: str | None, file: Path | None) -> tuple[bool, Iterator[tuple[str | None, str]]]:
    """Whether several descriptions may come, and each of them with its place, if it has one."""
    from toolkit.cli.inputs import STANDARD_INPUT, read_descriptions

    if description is not None and file is not None:
        raise InputError("There are a description and a file of them.", "Give DESCRIPTION or --from, not both.")
    if description is not None:
        return False, iter([(None, description)])
    if file is None and sys.stdin.isatty():
        raise InputError(
            "There is no description.", "Give one in quotes, a file of them with --from FILE, or pipe them in."
        )
    return True, ((line.where, line.text) for line in read_descriptions(file or STANDARD_INPUT))


def _ask(
    questions: Iterator[tuple[str | None, str]], opened: Callable[[], Any], answer: Callable[[Any, str], None]
) -> None:
    """Answer each description as it comes; the adapter is loaded once, when the first is there."""
    from toolkit.core.errors import after_saying
    from toolkit.core.text import clean_text

    # What cleaning leaves nothing of is an empty line; as an argument it is a mistake.
    asked = ((where, text) for where, text in questions if where is None or clean_text(text))
    first = next(asked, None)
    if first is None:
        raise InputError("No line holds a description.", "Write one description a line.")
    if not clean_text(first[1]):
        raise InputError("The description is empty.", "Describe the creature in a sentence or two.")
    answerer = opened()
    for where, text in chain([first], asked):
        if where is None:
            answer(answerer, text)
        else:
            with after_saying(f"{where}:"):
                answer(answerer, text)


def _opened(adapter: str, candidates: Path | None, *, to_identify: bool = False) -> Any:
    """The adapter, in a process that imports no more than it takes."""
    from toolkit.cli import output
    from toolkit.cli.inputs import read_lines
    from toolkit.model import adapter as adapters
    from toolkit.model import naming

    names = None if candidates is None else [line.text for line in read_lines(candidates)]
    folder = adapters.locate_adapter(adapter)
    if not adapters.may_be_quantized(folder):
        process.keep_out(process.UNUSED_IN_ANSWERS)
    with process.no_collecting(), output.waiting() as progress:
        return naming.open_adapter(folder, names, to_identify=to_identify, progress=progress)
