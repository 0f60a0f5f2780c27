"""`pkt`, its commands by module, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from toolkit import __version__
from toolkit.cli.options import program, settings, with_options
from toolkit.core.errors import ToolkitError, nearest

if TYPE_CHECKING:
    from toolkit.cli.output import Output

# Commands under their headings, in the order of a first use: the module of each, and what it does in a line.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "The road, from descriptions to a published adapter": {
        "run": ("run", "All of it by one recipe, or a sweep."),
        "build-dataset": ("data", "Make a chat dataset of descriptions."),
        "validate": ("data", "Check a dataset, in a folder or on the Hub."),
        "push-dataset": ("publish", "Upload a dataset to the Hub."),
        "train": ("train", "Fine-tune an adapter on a dataset."),
        "evaluate": ("train", "Measure an adapter beside its baselines."),
        "publish": ("publish", "Publish an evaluated adapter on the Hub."),
        "verify": ("publish", "Load a published adapter, and reproduce its samples."),
    },
    "Use an adapter": {
        "name": ("ask", "Invent new names for a creature."),
        "identify": ("ask", "Say which known creature a description is about."),
        "app": ("ask", "Show an adapter in the browser."),
        "serve": ("ask", "Answer over HTTP, as OpenAI's API does."),
        "merge": ("train", "Merge an adapter into its base."),
        "export": ("train", "Write an adapter as GGUF for llama.cpp and Ollama."),
        "inspect": ("inspect", "Say what an adapter or a dataset of anybody is."),
    },
    "Tools": {
        "preview": ("run", "Show a card as the Hub will."),
        "hub": ("run", "A Hub of your own, in a folder."),
        "base": ("run", "Bases that are on no Hub."),
        "doctor": ("run", "Check what this machine can do."),
        "completion": ("run", "Print a script that completes commands in your shell."),
    },
}
NAMES = [name for commands in COMMANDS.values() for name in commands]
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
    """The group `pkt`: imports the module of a command when it is asked for; alone, shows the road."""

    command_class = Verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            from pathlib import Path

            from toolkit.cli import road

            # As Click ends a group without a command: on standard error, as wrong usage.
            click.echo("\n".join(road.shown(Path())), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return NAMES

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        for module, summary in (commands[name] for commands in COMMANDS.values() if name in commands):
            importlib.import_module(f"toolkit.cli.{module}")
            self.commands[name].short_help = summary
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Click looks for the nearest among those that were imported.
        if args[0] not in NAMES and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = nearest(args[0], NAMES)
            raise click.UsageError(f"No such command {args[0]!r}.{f' Did you mean {near!r}?' if near else ''}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, summary) for name, (_, summary) in commands.items()])


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
