"""The whole road, and commands about this machine: run, preview, hub, doctor."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from toolkit.cli.group import PATH, Toolkit, hub_options, json_option, load, main, quieten, start


@main.command()
@click.argument("recipe_name", metavar="RECIPE")
@click.argument("out", type=PATH)
@click.option(
    "--resume/--restart", default=True, show_default=True, help="Continue an interrupted training, or begin anew."
)
@hub_options
@json_option
def run(
    recipe_name: str, out: Path, resume: bool, endpoint: str | None, token_file: Path | None, as_json: bool
) -> None:
    """The whole road by RECIPE, into the folder OUT: build, train, evaluate, publish, verify.

    Steps whose inputs have not changed are skipped when it is run again. The recipe `demo` needs nothing but this
    machine, and publishes to a local Hub in OUT.
    """
    start(endpoint, token_file)
    recipe = load(recipe_name)
    from toolkit import run as road
    from toolkit.cli import output as show

    with show.road() as watching:
        result = road.run(recipe, out, road.Watchers(*watching, show.say), restart=not resume)
    show.travelled(result, as_json)


@main.command()
@click.argument("folder", type=PATH)
@click.option("--output", type=PATH, help="Where the page is written. Default: a temporary file.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page.")
def preview(folder: Path, output: Path | None, browser: bool) -> None:
    """Show the card of FOLDER, a dataset or an adapter, as the Hub will."""
    from toolkit import cards
    from toolkit.cli import output as show

    page = cards.write_preview(folder, output or Path(tempfile.mkdtemp(prefix="pkt-preview-")) / "card.html")
    show.page(page, open_browser=browser)


@main.group(cls=Toolkit)
def hub() -> None:
    """A Hub of your own, in a folder."""


@hub.command()
@click.argument("root", type=PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="Another one opens it to other machines.")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--token-file", type=PATH, help="File that holds the token. Default: ROOT/token, made at the first start."
)
def serve(root: Path, host: str, port: int, token_file: Path | None) -> None:
    """Serve the Hub in the folder ROOT to huggingface_hub, datasets, transformers and peft, until Ctrl-C.

    Whoever reaches it may read its public repositories. Writing, and reading private ones, needs its token. Open its
    address in a browser to read the cards. The tiny base of the demo is in it from the start.
    """
    from toolkit.cli import output as show
    from toolkit.hub.local import serve as server

    quieten()

    def fill(endpoint: str, token_file: Path) -> None:
        start(endpoint, token_file)
        from toolkit.hub import publish

        publish.push_tiny_base()

    def ready(endpoint: str, token_file: Path) -> None:
        show.hub_is_ready(endpoint, token_file, host)

    server.serve_forever(root, host, port, ready, fill, token_file=token_file)


@main.command()
@hub_options
@json_option
def doctor(endpoint: str | None, token_file: Path | None, as_json: bool) -> None:
    """Say what this machine can do, and what is missing for what."""
    start(endpoint, token_file)
    from toolkit.cli import output as show
    from toolkit.model import doctor

    show.diagnosed(doctor.diagnose(), as_json)
