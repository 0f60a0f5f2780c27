"""`pkt`, its commands by module, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from toolkit import __version__
from toolkit.cli.options import settings, with_options
from toolkit.core.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.cli.output import Output

# Each command and the module that defines it, in the order of a first use.
COMMANDS = {
    "run": "run",
    "build-dataset": "data",
    "validate": "data",
    "push-dataset": "publish",
    "train": "train",
    "evaluate": "train",
    "publish": "publish",
    "verify": "publish",
    "merge": "train",
    "inspect": "inspect",
    "name": "ask",
    "identify": "ask",
    "app": "ask",
    "serve": "ask",
    "preview": "run",
    "hub": "run",
    "base": "run",
    "doctor": "run",
}
BUG_EXIT_CODE = 70
INTERRUPTED_EXIT_CODE = 130


class Verb(click.Command):
    """A command; its function gets an `Output` first, and all errors end here."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options for a recipe's settings come after `--recipe`, and are made when they are needed."""
        params = super().get_params(ctx)
        options = [option.name if isinstance(option, click.Option) else None for option in params]
        after = options.index("recipe") + 1 if "recipe" in options else len(params)
        return [*params[:after], *(settings(str(self.name)) if "recipe" in options else ()), *params[after:]]

    def invoke(self, ctx: click.Context) -> object:
        try:
            ctx.obj = self._prepare(ctx)
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader closed the pipe: Click ends quietly.
            raise
        except (ToolkitError, OSError, KeyboardInterrupt) as error:
            _end(error, ctx)

    def _prepare(self, ctx: click.Context) -> Output:
        """Quieten the libraries and choose the Hub before any of them is imported."""
        from toolkit.cli import process
        from toolkit.core import hub_client

        process.prepare(str(self.name), verbose=ctx.find_root().params["verbose"])
        process.check_alone(str(self.name))
        if "endpoint" in ctx.params:
            hub_client.use_hub(ctx.params.pop("endpoint"), ctx.params.pop("token_file"))
        from toolkit.cli.output import Output

        output = Output(as_json=ctx.params.pop("as_json", False))
        process.show_log(output.say)
        return output


class Toolkit(click.Group):
    """The group `pkt`: imports the module of a command when it is asked for."""

    command_class = Verb

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            importlib.import_module(f"toolkit.cli.{COMMANDS[name]}")
        return super().get_command(ctx, name)


def _end(error: BaseException, ctx: click.Context | None = None) -> NoReturn:
    """Print the line of an error and exit with its code."""
    from toolkit.cli import process
    from toolkit.core.hub_client import without_secrets
    from toolkit.core.text import printable

    line, code = _line_and_code(error)
    # A name or a template of somebody else may hold line breaks and control characters.
    process.show_error(printable(without_secrets(with_options(line, ctx) if ctx else line)), error)
    if code == INTERRUPTED_EXIT_CODE and isinstance(error, ToolkitError):
        import shlex

        from toolkit.cli.output import program

        again = [argument for argument in sys.argv[1:] if argument != "--restart"]
        click.echo(f"  {program()} {without_secrets(shlex.join(again))}", err=True)
    sys.exit(code)


def _line_and_code(error: BaseException) -> tuple[str, int]:
    from toolkit.core.folder import unwritable

    match error:
        case ToolkitError():
            return f"Error: {error}", error.exit_code
        case OSError():
            return _line_and_code(unwritable(None, error))
        case KeyboardInterrupt():
            return "Interrupted.", INTERRUPTED_EXIT_CODE
        case _:
            kind = type(error).__name__
            return f"Error: pkt has a bug ({kind}). Please report it with {_report(error)}.", BUG_EXIT_CODE


def _report(error: BaseException) -> str:
    """Write the traceback to a file, and give its path."""
    import tempfile
    import traceback

    from toolkit.core.hub_client import without_secrets

    with tempfile.NamedTemporaryFile("w", prefix="pkt-bug-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(without_secrets("".join(traceback.format_exception(error))))
    return file.name


@click.group(cls=Toolkit, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pkt")
@click.option("--verbose", is_flag=True, help="Show the libraries' own notices and warnings.")
def main(verbose: bool) -> None:
    """Descriptions of creatures, all the way to a published, checked LoRA adapter that names them.

    New here? `pkt run demo demo` does everything on this machine, without account, GPU or network.
    """
    sys.excepthook = lambda _kind, error, _trace: _end(error)
