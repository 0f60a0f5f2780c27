"""The whole pipeline, and commands about this machine: run, preview, hub serve, base import, doctor, completion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import options
from toolkit.cli.group import Verb, main
from toolkit.cli.options import PATH

if TYPE_CHECKING:
    from toolkit.cli.output import Output
    from toolkit.core.workers import EngineName


def _recipes(context: click.Context, _: click.Parameter, recipes: tuple[str, ...]) -> tuple[str, ...]:
    """Of one argument click would say that it is OUT, and that the recipe is missing."""
    if not recipes and not context.resilient_parsing:
        raise click.UsageError("Give a recipe and a folder for the run, as in `pkt run demo demo`.")
    return recipes


@main.command()
@click.argument("recipes", metavar="RECIPE...", nargs=-1, callback=_recipes, shell_complete=options.recipes)
@click.argument("out", type=PATH)
@options.changed
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Runs of a sweep at once.")
@options.engine
@click.option("--trial", is_flag=True, hidden=True)
@options.resume
@options.hub_and_json
@click.pass_obj
def run(
    output: Output,
    /,
    recipes: tuple[str, ...],
    out: Path,
    changed: dict[str, list[object]],
    workers: int,
    engine: EngineName,
    trial: bool,
    resume: bool,
) -> None:
    """Run the whole pipeline of RECIPE into the folder OUT: build, train, evaluate, publish, verify.

    Run again, it skips the steps whose inputs have not changed. The recipe `demo` needs nothing but this
    machine, and publishes to a local Hub in OUT; any other does so with --set publish.local_hub=true, where its base is
    one that was imported into OUT/hub.

    Several recipes, a folder of them, or several values of a setting are a sweep: each combination is trained into a
    folder in OUT, and the one that identifies best on validation is evaluated and published. OUT/sweep.json and
    OUT/sweep.png show all. What failed or was stopped, the same command runs again.
    """
    from toolkit import run as pipeline
    from toolkit import sweep
    from toolkit.cli import results

    with output.pipeline() as shown:
        callbacks = pipeline.RunCallbacks(*shown, output.say)
        if trial:
            sweep.run_trial(out, callbacks)
            return
        trials = sweep.plan_trials(recipes, changed)
        if len(trials) > 1:
            swept = sweep.run_sweep(trials, out, callbacks, workers=workers, engine=engine, restart=not resume)
        else:
            result = pipeline.run_pipeline(trials[0].recipe, out, callbacks, restart=not resume)
    if len(trials) > 1:
        results.swept(output, swept)
    else:
        results.ran(output, result)


@main.command()
@click.argument("folder", type=PATH)
@click.option("--output", "page", type=PATH, help="Where to write the page. Default: a temporary file.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page.")
@click.pass_obj
def preview(output: Output, /, folder: Path, page: Path | None, browser: bool) -> None:
    """Show the card of FOLDER, a dataset or an adapter, as the Hub will."""
    import tempfile
    import webbrowser

    from toolkit import cards

    written = cards.write_preview(folder, page or Path(tempfile.mkdtemp(prefix="pkt-preview-")) / "card.html")
    output.say(f"The card is in {written}.")
    if browser:
        webbrowser.open(written.absolute().as_uri())


@main.group()
def hub() -> None:
    """A Hub of your own, in a folder."""


@hub.command(cls=Verb)
@click.argument("root", type=PATH)
@options.host
@click.option("--port", default=8765, show_default=True, type=options.PORT, help="0 picks a free one.")
@click.option(
    "--token-file", type=PATH, help="File that holds the token. Default: ROOT/token, made at the first start."
)
@click.pass_obj
def serve(output: Output, /, root: Path, host: str, port: int, token_file: Path | None) -> None:
    """Serve the Hub in the folder ROOT to huggingface_hub, datasets, transformers and peft, until Ctrl-C.

    Anybody who reaches it may read its public repositories. Writing, and reading private ones, needs its token. Open
    its address in a browser to read the cards. The tiny base of the demo is in it from the start.
    """
    from toolkit.cli import results
    from toolkit.hub.local import serve as server

    def fill(endpoint: str, token_file: Path) -> None:
        from toolkit.core import hub_client
        from toolkit.hub import publish

        hub_client.use_hub(endpoint, token_file)
        publish.push_tiny_base()

    def ready(endpoint: str, token_file: Path) -> None:
        results.hub_is_ready(output, endpoint, token_file, host)

    server.serve_forever(root, host, port, ready, fill, token_file=token_file)


@main.group()
def base() -> None:
    """Bases that are on no Hub."""


@base.command("import", cls=Verb)
@click.argument("file", type=PATH)
@click.argument("repo_id", metavar="ID")
@click.option(
    "--hub", "root", type=PATH, default="hub", show_default=True, help="Folder of the local Hub to put it on."
)
@options.as_json
@click.pass_obj
def import_base(output: Output, /, file: Path, repo_id: str, root: Path) -> None:
    """Put the model of a GGUF FILE on a local Hub as ID, to train on it without any other Hub.

    Llama, Gemma 2 and 3, and Qwen 2 and 3 are what it is for. The weights are dequantised and written in bf16, and the
    model has to know a plain sentence. Its card says where it came from. Give it the original's ID, so that whoever
    has that can load the adapters. The same file again is done already. Needs the package gguf.
    """
    from toolkit.cli import results
    from toolkit.hub import base

    results.imported(output, base.import_base(file, repo_id, root))


@main.command()
@options.hub_and_json
@click.pass_obj
def doctor(output: Output, /) -> None:
    """Check what this machine can do, and say what is missing for the rest."""
    from toolkit.cli import results
    from toolkit.model import doctor

    results.diagnosed(output, doctor.diagnose())


# No Verb: a shell that starts need not wait for what work needs.
@main.command(cls=click.Command)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print a script that completes commands, options, recipes and folders in your shell.

    \b
    bash: eval "$(pkt completion bash)"            in ~/.bashrc
    zsh:  eval "$(pkt completion zsh)"             in ~/.zshrc, after compinit
    fish: pkt completion fish > ~/.config/fish/completions/pkt.fish
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    if script is not None:
        click.echo(script(main, {}, "pkt", "_PKT_COMPLETE").source())
