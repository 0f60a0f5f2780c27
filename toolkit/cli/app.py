"""The command that shows an adapter in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.group import hub_options, main, start
from toolkit.core.errors import ToolkitError


@main.command()
@click.option("--adapter", required=True, metavar="FOLDER|REPO_ID", help="The adapter that answers.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="0.0.0.0 shows it to everybody who reaches this machine."
)
@click.option("--port", default=7860, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@hub_options
def app(adapter: str, host: str, port: int, endpoint: str | None, token_file: Path | None) -> None:
    """Show an adapter in the browser, until Ctrl-C: describe a creature, and get names and the nearest creatures.

    Needs the extra `app`. One description is answered at a time, and nothing leaves this machine.
    """
    start(endpoint, token_file)
    from toolkit.cli import output
    from toolkit.hub.space import app as page
    from toolkit.hub.space import serve
    from toolkit.model import adapter as adapters
    from toolkit.model import naming

    serve.check_installed()
    folder = adapters.locate_adapter(adapter)
    about, answerer = serve.about(folder), naming.open_adapter(folder)

    def answer(description: str, seed: int) -> page.Answer:
        try:
            named = naming.name(answerer, description, page.NAMES, seed)
        except ToolkitError as error:
            raise page.Problem(str(error)) from error
        nearest = [(candidate.name, candidate.probability) for candidate in named.nearest]
        return page.Answer([invented.name for invented in named.names], nearest)

    serve.serve(about, answer, host, port, output.app_is_ready)
