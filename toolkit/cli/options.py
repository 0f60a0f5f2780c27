"""The options that commands share, each written once: those of a recipe are made from its fields.

Errors and notes of library code name Python arguments and settings in backticks; `with_options` shows the options, and
`program` says what to type before them.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Literal, TypeVar, Union, get_args, get_origin

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from toolkit.core.recipe import Recipe

PATH = click.Path(path_type=Path)
PORT = click.IntRange(0, 65535)
SOURCE = "dataset.sources."
Function = TypeVar("Function", bound=Callable[..., None])
# `training.max_length`, `overwrite_card`, `quantization="none"`
_NAMED = r"`([a-z_]+(?:\.[a-z_]+)*)(?: ?= ?(?:\"([^\"`]*)\"|([\w.]+)))?`"


def folders(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    """What a shell completes a folder or Hub id with: folders."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(begun, type="dir")]


def recipes(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    """What a shell completes a recipe with: the shipped ones, and files."""
    from click.shell_completion import CompletionItem

    from toolkit.core.recipe import recipe_names

    # Files first: bash's script begins anew at their line.
    shipped = [CompletionItem(name) for name in recipe_names() if name.startswith(begun)]
    return [CompletionItem(begun, type="file"), *shipped]


adapter = click.option(
    "--adapter",
    required=True,
    shell_complete=folders,
    metavar="FOLDER|REPO_ID",
    help="The adapter that answers; REPO_ID/FOLDER for one in a folder of its repository.",
)
base = click.option(
    "--base",
    metavar="ID|FOLDER",
    shell_complete=folders,
    help="Load the adapter on this base. Default: the one that the adapter names.",
)
dataset_revision = click.option(
    "--dataset-revision", help="Commit, branch or tag of a DATASET on the Hub. Default: its newest commit."
)
engine = click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    show_default=True,
    help="What computes: this process, or a Ray cluster (of RAY_ADDRESS, else of this machine), with the same results.",
)
host = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 admits other machines."
)
resume = click.option(
    "--resume/--restart",
    default=True,
    show_default=True,
    help="Continue interrupted work and keep finished results, or begin anew and replace them at the end.",
)
templates = click.option(
    "--template", "templates", type=PATH, metavar="FOLDER", help="Your own card templates, in place of the toolkit's."
)


def revision(of: str) -> Callable[[Function], Function]:
    """`--revision`."""
    return click.option("--revision", help=f"Commit, branch or tag of {of} on the Hub. Default: the newest commit.")


def hub_and_json(command: Function) -> Function:
    """`--endpoint`, `--token-file` and `--json`, which `Verb` reads before the command runs."""
    return hub(as_json(command))


def as_json(command: Function) -> Function:
    """`--json` alone."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def hub(command: Function) -> Function:
    """`--endpoint` and `--token-file`, which `Verb` reads before the command runs."""
    endpoint = click.option(
        "--endpoint", metavar="URL", help="Address of the Hub. Default: HF_ENDPOINT, or the public Hub."
    )
    token = click.option("--token-file", type=PATH, help="File that holds the token. Default: HF_TOKEN, or the login.")
    return endpoint(token(command))


def publishing(command: Function) -> Function:
    """How something is published."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Write the card and list what would change; upload nothing."),
        click.option(
            "--overwrite-card", is_flag=True, help="Replace a card that was edited by hand, here or on the Hub."
        ),
        click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing."),
        click.option("--tag", help="Tag the commit as a release, such as v1."),
        click.option(
            "--private/--public",
            default=None,
            help="Final visibility. Default: public for a new repository, unchanged for an existing one.",
        ),
    ):
        command = option(command)
    return command


def recipe(default: str | None = "demo") -> Callable[[Function], Function]:
    """`--recipe`, and after it an option for each setting that the command takes."""
    start = "Settings to start from: a shipped recipe or a TOML file. The options below override them."
    trained = "Settings to start from. Default: those of the training."
    return click.option(
        "--recipe",
        default=default,
        show_default=True,
        metavar="NAME|FILE",
        shell_complete=recipes,
        help=start if default else trained,
    )


@cache
def settings(command: str) -> list[click.Parameter]:
    """An option for each setting of a recipe that a command takes; its name in Python has `__` for the dot."""
    from toolkit.core.recipe import settings_with_options

    return [_setting(key) for key in settings_with_options(command)]


def _setting(key: str) -> click.Option:
    from toolkit.core.recipe import fields, option_name

    field = fields()[key]
    kinds = [kind for kind in _members(field.annotation) if kind is not NoneType]
    several = get_origin(kinds[0]) is list
    kinds = list(get_args(kinds[0])) if several else kinds
    choices = get_args(kinds[0]) if get_origin(kinds[0]) is Literal else ()
    name = option_name(key)
    return click.Option(
        [f"{name}/--no-{name[2:]}" if kinds == [bool] else name, key.replace(".", "__")],
        type=click.Choice(choices) if choices else str if len(kinds) > 1 else kinds[0],
        metavar="N|auto" if len(kinds) > 1 else None,
        multiple=several or key.startswith(SOURCE),
        callback=_listed if several else _one_source if key.startswith(SOURCE) else None,
        help=f"{field.description or ''}{' May be repeated.' * several}",
    )


def _members(kind: object) -> tuple[object, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _listed(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> list[str] | None:
    return list(given) or None


def _one_source(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> str | None:
    if len(given) > 1:
        raise click.BadParameter("given twice; several sources go into a recipe, each under [[dataset.sources]].")
    return given[0] if given else None


def _settings(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, list[object]]:
    """The values of each setting of `--set KEY=VALUE`; a value is TOML, or else a text."""
    import tomllib

    read: dict[str, list[object]] = {}
    for pair in given:
        key, is_pair, text = pair.partition("=")
        if not is_pair:
            raise click.BadParameter(f"{pair!r} is no KEY=VALUE.")
        for value in text.split(",") if _holds_no_comma(key.strip()) else [text]:
            values = read.setdefault(key.strip(), [])
            try:
                values.append(tomllib.loads(f"value = {value}")["value"])
            except ValueError:
                values.append(value)
    return read


def _holds_no_comma(key: str) -> bool:
    """Whether a setting is a number, a switch or a choice: in a text or a list, a comma is a part of one value."""
    from toolkit.core.recipe import fields

    kinds = _members(fields()[key].annotation) if key in fields() else ()
    return bool(kinds) and all(kind in (int, float, bool, NoneType) or get_origin(kind) is Literal for kind in kinds)


changed = click.option(
    "--set",
    "changed",
    multiple=True,
    callback=_settings,
    metavar="KEY=VALUE",
    help="A setting of the recipe to change, such as training.epochs=2. May be repeated. Several values make a sweep: "
    "training.learning_rate=1e-4,3e-4, or --set again for a KEY whose value is a text or a list.",
)


def load(recipe: str | Mapping[str, object] | None, options: Mapping[str, object]) -> Recipe:
    """The recipe with a command's options on top."""
    from toolkit.core.recipe import load_recipe

    given = {key.replace("__", "."): value for key, value in options.items() if value is not None}
    source = {key.removeprefix(SOURCE): given.pop(key) for key in list(given) if key.startswith(SOURCE)}
    if source and "name" not in source:
        first, *others = load_recipe(recipe).dataset.sources
        if others:
            raise click.UsageError("The recipe has several sources: change them in the recipe, or give --source.")
        source = first.model_dump(exclude_none=True) | source
    return load_recipe(recipe, given | ({"dataset.sources": [source]} if source else {}))


def program() -> str:
    """How this command line is called on this machine: `pkt` where it is on the path."""
    if shutil.which("pkt"):
        return "pkt"
    return "python -m toolkit" if sys.argv[0].endswith("__main__.py") else sys.argv[0]


def with_options(text: str, context: click.Context) -> str:
    """The text with each `argument` or `section.key` in backticks as the option of the running command that sets it.

    A value stays beside it: `quantization="none"` becomes --quantization none. Names of no option stay as they are.
    """
    flags = _flags(context)

    def as_option(found: re.Match[str]) -> str:
        value = found[2] or found[3] or ""
        if opposite := flags.get(f"{found[1]}={value}"):
            return opposite
        flag = flags.get(found[1])
        return found[0] if flag is None else flag if value in ("", "True") else f"{flag} {value}"

    return re.sub(_NAMED, as_option, text)


def _flags(context: click.Context) -> dict[str, str]:
    """Names of arguments and settings in Python, each with the option that sets it."""
    flags: dict[str, str] = {}
    for option in context.command.get_params(context):
        if isinstance(option, click.Option):
            written = [flag for flag in (*option.opts, *option.secondary_opts) if flag.startswith("--")]
            key = str(option.name).replace("__", ".")
            flags |= {flag[2:].replace("-", "_"): flag for flag in written} | {key: written[0]}
            flags.setdefault(key.rpartition(".")[2], written[0])
            flags |= {f"{key}=False": flag for flag in option.secondary_opts}
    return flags
