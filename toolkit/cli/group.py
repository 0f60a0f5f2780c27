"""The group `pkt`, what its commands share, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import click

from toolkit import __version__
from toolkit.cli.options import with_options
from toolkit.core.errors import ToolkitError

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
# In `pkt --help` and the docs, commands stand in the order in which one meets them; those not named here come last.
ORDER = (
    "run",
    "build-dataset",
    "validate",
    "push-dataset",
    "train",
    "evaluate",
    "publish",
    "verify",
    "merge",
    "name",
    "identify",
    "app",
    "preview",
    "hub",
    "doctor",
)
BUG_EXIT_CODE = 70
INTERRUPTED_EXIT_CODE = 130


class Verb(click.Command):
    """A command; the one place where its errors become a line on the terminal and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ToolkitError as error:
            self._fail(ctx, error)
        except BrokenPipeError:
            # Whoever read the output has enough: Click ends quietly.
            raise
        except OSError as error:
            self._fail(ctx, _from_os(error))
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(INTERRUPTED_EXIT_CODE)

    def _fail(self, ctx: click.Context, error: ToolkitError) -> None:
        from toolkit.core.hub_client import without_secrets
        from toolkit.core.text import printable

        # A name or a template of somebody else may hold line breaks and control characters.
        click.echo(f"Error: {printable(without_secrets(with_options(str(error), ctx)))}", err=True)
        if error.exit_code == INTERRUPTED_EXIT_CODE:
            from toolkit.cli.output.terminal import program

            again = [argument for argument in sys.argv[1:] if argument != "--restart"]
            click.echo(f"  {program()} {without_secrets(shlex.join(again))}", err=True)
        sys.exit(error.exit_code)


class Toolkit(click.Group):
    """`pkt`, whose commands stand in the order in which one meets them."""

    command_class = Verb

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _from_os(error: OSError) -> ToolkitError:
    from toolkit.core.folder import unwritable

    return unwritable(None, error)


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from toolkit.core.hub_client import without_secrets

    with tempfile.NamedTemporaryFile("w", prefix="pkt-bug-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))
    click.echo(f"Error: pkt has a bug ({kind.__name__}). Please report it with {file.name}.", err=True)
    raise SystemExit(BUG_EXIT_CODE)


@click.group(cls=Toolkit, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pkt")
@click.option("--verbose", is_flag=True, help="Show the libraries' own notices and warnings.")
def main(verbose: bool) -> None:
    """Descriptions of creatures, all the way to a published, checked LoRA adapter that names them.

    New here? `pkt run demo demo` does everything on this machine, without account, GPU or network.
    """
    sys.excepthook = _report_bug


def recipe_option(command: Command) -> Command:
    """`--recipe`."""
    return click.option(
        "--recipe", "recipe_name", default="demo", show_default=True, metavar="NAME|FILE",
        help="Settings to start from: a shipped recipe or a TOML file. The options below override it.",
    )(command)  # fmt: skip


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")(command)


def publish_options(command: Command) -> Command:
    """How something is published."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Write the card and say what would change; upload nothing."),
        click.option(
            "--overwrite-card", is_flag=True, help="Render a card anew that was edited by hand, here or on the Hub."
        ),
        click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing."),
        click.option("--tag", help="Tag it as a release, such as v1."),
        click.option(
            "--private/--public",
            default=None,
            help="Who sees it in the end. Default: everybody for a new repository; another stays as it is.",
        ),
    ):
        command = option(command)
    return command


def hub_options(command: Command) -> Command:
    """`--endpoint` and `--token-file`."""
    for option in (
        click.option(
            "--token-file", type=PATH, help="File that holds the Hub token. Default: HF_TOKEN or the stored login."
        ),
        click.option("--endpoint", metavar="URL", help="Address of the Hub. Default: HF_ENDPOINT or the public Hub."),
    ):
        command = option(command)
    return command


def start(endpoint: str | None = None, token_file: Path | None = None) -> None:
    """Choose the Hub and silence the libraries, before any of them is imported."""
    from toolkit.cli import process
    from toolkit.core import hub_client as endpoints

    quieten()
    process.wait_beside_others()
    endpoints.use_hub(endpoint, token_file)


def quieten() -> None:
    """Silence the libraries, unless `--verbose` asks for their notices."""
    from toolkit.cli import notices

    if not click.get_current_context().find_root().params["verbose"]:
        notices.silence()


def load(recipe_name: str | dict[str, Any] | None, **overrides: Any) -> Any:
    """The recipe with the command's options on top; an option is named `section__key`."""
    from toolkit.core.recipe import load_recipe

    return load_recipe(recipe_name, {key.replace("__", "."): value for key, value in overrides.items()})
