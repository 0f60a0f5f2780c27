"""Commands that ask an adapter: name, identify, app, serve. Descriptions come from an argument, a file or a browser."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import click

from toolkit.cli import options
from toolkit.cli.group import main
from toolkit.cli.options import PATH, Function
from toolkit.core.errors import InputError, ToolkitError, after_saying
from toolkit.core.layout import NAMES_GIVEN

if TYPE_CHECKING:
    from toolkit.cli.output import Output
    from toolkit.core.workers import EngineName
    from toolkit.model.naming import Answerer


Line = tuple[str, str | None]
"""A description, and where it was read, if anywhere: `Line 3 of creatures.txt`."""


def answering(command: Function) -> Function:
    """`--adapter`, `--revision` and `--base`."""
    return options.adapter(options.revision("an adapter")(options.base(command)))


candidates = click.option(
    "--candidates",
    type=PATH,
    metavar="FILE",
    help="Known creatures in place of those that the adapter learnt: one name per line, or a table (.csv, .json, ...) "
    "with a column `name`, or a list as in answers.json.",
)


def question(command: Function) -> Function:
    """DESCRIPTION, `--from`, `--to`, `--candidates`, and which adapter answers."""
    for option in (
        candidates,
        options.resume,
        options.engine,
        click.option(
            "--to",
            type=PATH,
            metavar="FILE.parquet",
            help="Write a row for each line or row of --from into a Parquet file, any number of them: the same command "
            "continues where it was interrupted, and a row that cannot be answered says why.",
        ),
        click.option(
            "--from",
            "file",
            type=PATH,
            metavar="FILE",
            help="Descriptions, one per line, or a table (.csv, .tsv, .json, .jsonl, .parquet) with a column "
            "`description`; - is standard input.",
        ),
        answering,
        click.argument("description", required=False),
    ):
        command = option(command)
    return command


@main.command()
@question
@click.option("--count", default=NAMES_GIVEN, show_default=True, type=click.IntRange(1, 100), help="Number of names.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    help="The same seed draws the same names.",
)
@click.option("--known", is_flag=True, help="Allow names of known creatures, and of any form: the likeliest first.")
@options.hub_and_json
@click.pass_obj
def name(
    output: Output,
    /,
    description: str | None,
    file: Path | None,
    candidates: Path | None,
    count: int,
    seed: int,
    known: bool,
    to: Path | None,
    engine: EngineName,
    resume: bool,
    **which: Any,
) -> None:
    """Invent new names for the creature in DESCRIPTION, in English or Korean.

    Without DESCRIPTION, read descriptions from standard input, one per line. With --json, print one object for
    DESCRIPTION, or one object per line of a file or of standard input. With --to, write the answers to a file instead;
    there each description has a seed of its own, from --seed on.

    A new name is no name of the adapter's dataset, nor one letter from one. First come the names that look like names,
    by how much likelier the description makes them. Each comes with the probability that the model answers exactly
    this, among all that it could say, and with the known name that is nearest to it by its letters. The known creatures
    nearest to the description follow, as `pkt identify` finds them.
    """
    if _is_for_a_file(to, description, engine, resume):
        asked = {"verb": "name", "count": count, "seed": seed, "known": known}
        _answer_all(output, file, to, candidates, asked, engine=engine, restart=not resume, **which)
        return
    lines = _lines(output, description, file)
    from toolkit.cli import results
    from toolkit.model import naming

    answerer = _load(output, candidates, **which)
    for text, where in lines:
        with _at(where), output.waiting() as progress:
            named = naming.name(answerer, text, count, seed, progress, known=known)
        results.named(output, named, wanted=count, one_of_several=where is not None)


@main.command()
@question
@click.option(
    "--top", default=NAMES_GIVEN, show_default=True, type=click.IntRange(1, 100), help="Number of candidates."
)
@options.hub_and_json
@click.pass_obj
def identify(
    output: Output,
    /,
    description: str | None,
    file: Path | None,
    to: Path | None,
    engine: EngineName,
    resume: bool,
    candidates: Path | None,
    top: int,
    **which: Any,
) -> None:
    """Say which known creature DESCRIPTION is about, in English or Korean.

    Without DESCRIPTION, read descriptions from standard input, one per line. With --json, print one object for
    DESCRIPTION, or one object per line of a file or of standard input. With --to, write the answers to a file instead.

    Each name comes with its probability among all names that the adapter learnt, or that --candidates gives. An adapter
    with centroids ranks those that it learnt by them, as it was measured. The folder of an encoder (`pkt train --task
    identify`) answers too, with the creatures that it learnt.
    """
    from toolkit.model import encoder as encoders

    learnt = encoders.is_encoder(which["adapter"])
    if learnt and (candidates or which["base"] or which["revision"]):
        raise InputError("An encoder knows the creatures that it learnt alone.", "Give its folder and no more.")
    if _is_for_a_file(to, description, engine, resume):
        asked = {"verb": "identify", "count": top}
        _answer_all(output, file, to, candidates, asked, engine=engine, restart=not resume, **which)
        return
    lines = _lines(output, description, file)
    from toolkit.cli import results
    from toolkit.model import naming

    if learnt:
        encoder = encoders.open_encoder(which["adapter"])
        for text, where in lines:
            with _at(where):
                found = encoders.identify(encoder, text, top)
            results.identified(output, found, one_of_several=where is not None)
        return
    answerer = _load(output, candidates, **which)
    for text, where in lines:
        with _at(where), output.waiting() as progress:
            identified = naming.identify(answerer, text, top, progress)
        results.identified(output, identified, one_of_several=where is not None)


@main.command()
@answering
@options.host
@click.option("--port", default=7860, show_default=True, type=options.PORT, help="0 picks a free one.")
@options.hub
@click.pass_obj
def app(output: Output, /, adapter: str, revision: str | None, base: str | None, host: str, port: int) -> None:
    """Show an adapter in the browser, until Ctrl-C: describe a creature, and get names and the nearest creatures.

    Needs the extra `app`. One description is answered at a time, and nothing leaves this machine.
    """
    from toolkit.hub.space import app as page
    from toolkit.hub.space import serve
    from toolkit.model import adapter as adapters
    from toolkit.model import naming

    serve.check_installed()
    folder = adapters.locate_adapter(adapter, revision)
    about, answerer = serve.about(folder), naming.open_adapter(folder, base=base)

    def answer(description: str, seed: int) -> page.Answer:
        try:
            named = naming.name(answerer, description, page.NAMES, seed)
        except ToolkitError as error:
            raise page.Problem(str(error)) from error
        nearest = [(candidate.name, candidate.probability) for candidate in named.nearest]
        return page.Answer([invented.name for invented in named.names], nearest)

    serve.serve(about, answer, host, port, lambda url: output.say(f"The app is at {url}. Stop it with Ctrl-C."))


@main.command()
@click.argument("adapters", nargs=-1, required=True, metavar="ADAPTER...", shell_complete=options.folders)
@options.revision("the adapters")
@options.base
@candidates
@options.host
@click.option("--port", default=8000, show_default=True, type=options.PORT, help="0 picks a free one.")
@click.option(
    "--api-key-file",
    type=PATH,
    metavar="FILE",
    help="File with the key that requests must show; made if it is not there. A --host that others reach needs it.",
)
@options.hub
@click.pass_context
def serve(context: click.Context, /, adapters: tuple[str, ...], candidates: Path | None, **where: Any) -> None:
    """Keep ADAPTERs, folders or Hub ids of one base, loaded, and answer over HTTP until Ctrl-C or SIGTERM.

    \b
    POST /v1/chat/completions  as OpenAI's clients send it
    POST /v1/identify          {"description": "...", "top": 5}
    POST /v1/name              {"description": "...", "count": 5, "seed": 0}
    GET  /v1/models, /health, /metrics, and / for a browser

    Each request may name its `model`: the name of an adapter's folder, or its Hub id. The first answers otherwise.
    """
    from toolkit.serving.serve import serve as run

    output = context.obj
    if context.find_root().params["verbose"]:
        logging.getLogger("toolkit.serving").setLevel(logging.DEBUG)
    names = _names(output, candidates)

    def ready(url: str) -> None:
        if where["api_key_file"] is not None:
            output.say(f"Requests must show the key in {where['api_key_file']}. Nothing is encrypted on the way.")
        output.say(f"Ready at {url}. Stop it with Ctrl-C.")

    run(adapters, names, **where, on_ready=ready)


def _load(output: Output, /, candidates: Path | None, adapter: str, revision: str | None, base: str | None) -> Answerer:
    from toolkit.core import imports
    from toolkit.model import adapter as adapters
    from toolkit.model import naming

    names = _names(output, candidates)
    folder = adapters.locate_adapter(adapter, revision)
    unused = () if adapters.may_be_quantized(folder, base) else imports.UNUSED
    with imports.quick_imports(without=unused), output.waiting() as progress:
        return naming.open_adapter(folder, names, progress, base=base)


def _lines(output: Output, /, description: str | None, file: Path | None) -> Iterator[Line]:
    """The descriptions to answer, read lazily; the first is read at once, so that no model is loaded for none."""
    if description is not None and file is not None:
        raise InputError("There are a description and a file of them.", "Give DESCRIPTION or --from, not both.")
    lines: Iterator[Line] = iter([(description, None)] if description is not None else [])
    if description is None and (file is not None or not sys.stdin.isatty()):
        lines = _read(output, file or Path("-"), "description")
    from toolkit.core.text import clean_text

    described = ((text, where) for text, where in lines if clean_text(text))
    first = next(described, None)
    if first is None:
        raise InputError(
            "There is no description.", "Give one in quotes, a file of them with --from FILE, or pipe them in."
        )
    return chain([first], described)


def _is_for_a_file(to: Path | None, description: str | None, engine: EngineName, resume: bool) -> TypeGuard[Path]:
    """Whether answers go to a file."""
    if to is None and (engine != "local" or not resume):
        raise InputError("Answers that go to no file are given here, and are not kept.", "Name a file with --to.")
    if to is not None and description is not None:
        raise InputError("--to is for many descriptions.", "Give a file of them with --from, or pipe them in.")
    return to is not None


def _answer_all(
    output: Output,
    file: Path | None,
    to: Path,
    candidates: Path | None,
    question: dict[str, Any],
    *,
    base: str | None,
    **how: Any,
) -> None:
    from toolkit.cli import results
    from toolkit.model import bulk

    names = _names(output, candidates)
    texts = (text for text, _ in _read(output, file or Path("-"), "description", empty=True))
    first = next(texts, None)
    if first is None:
        raise InputError("There is no description.", "Give a file of them with --from FILE, or pipe them in.")
    asked = bulk.Question(**question, candidates=None if names is None else tuple(names), base=base)
    with output.counting() as count:
        written = bulk.answer_all(
            descriptions=chain([first], texts), output=to, question=asked, progress=count, note=output.say, **how
        )
    results.answers_written(output, written)


def _names(output: Output, candidates: Path | None) -> list[str] | None:
    return None if candidates is None else [text for text, _ in _read(output, candidates, "name", "answer")]


def _read(output: Output, file: Path, *columns: str, empty: bool = False) -> Iterator[Line]:
    from toolkit.data.sources.formats import read_texts

    texts: Iterator[Line]
    notes, texts = read_texts(file, *columns, empty=empty)
    for note in notes:
        output.say(f"{file}: {note}")
    return texts


def _at(where: str | None) -> AbstractContextManager[None]:
    """Put the place of a description before an error about it."""
    return nullcontext() if where is None else after_saying(f"{where}:")
