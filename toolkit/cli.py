"""The command line: parse, call one step, show its result. Nothing but Click is imported until work starts."""

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
from toolkit.errors import InputError, ToolkitError

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
BUG_EXIT_CODE = 70
INTERRUPTED_EXIT_CODE = 130
SOURCE_PREFIX = "source__"


class Toolkit(click.Group):
    """The one place where errors become a line on the terminal and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ToolkitError as error:
            self._fail(error)
        except OSError as error:
            self._fail(_from_os(error))
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(INTERRUPTED_EXIT_CODE)

    def _fail(self, error: ToolkitError) -> None:
        from toolkit.endpoint import without_secrets

        # A name or a template of somebody else may hold line breaks and control characters.
        line = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode()
            for char in without_secrets(str(error))
        )
        click.echo(f"Error: {line}", err=True)
        if error.exit_code == INTERRUPTED_EXIT_CODE:
            from toolkit.show.terminal import program

            again = [argument for argument in sys.argv[1:] if argument != "--restart"]
            click.echo(f"  {program()} {without_secrets(shlex.join(again))}", err=True)
        sys.exit(error.exit_code)


def _from_os(error: OSError) -> ToolkitError:
    from toolkit.folder import unwritable

    return unwritable(None, error)


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from toolkit.endpoint import without_secrets

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
    from toolkit import endpoint as endpoints

    quieten()
    endpoints.use_hub(endpoint, token_file)


def quieten() -> None:
    """Silence the libraries, unless `--verbose` asks for their notices."""
    from toolkit import notices

    if not click.get_current_context().find_root().params["verbose"]:
        notices.silence()


def load(recipe_name: str | dict[str, Any] | None, **overrides: Any) -> Any:
    """The recipe with the command's options on top; an option is named `section__key`."""
    from toolkit.recipe import load_recipe

    return load_recipe(recipe_name, {key.replace("__", "."): value for key, value in overrides.items()})


class SourceCommand(click.Command):
    """A command with `--source`: the options of `source_options` are kept in the order in which they were written."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        values = {name: iter(value) for name, value in given.items() if name.startswith(SOURCE_PREFIX)}
        ctx.meta[SOURCE_PREFIX] = [
            (parameter.name.removeprefix(SOURCE_PREFIX), next(values[parameter.name]))
            for parameter in order
            if parameter.name in values
        ]
        return super().parse_args(ctx, args)


def source_options(command: Command) -> Command:
    """`--source`, and the options that belong to the source before them."""
    sources = click.Choice(["corpus", "pokeapi", "hub", "table"])
    languages = click.Choice(["en", "ko"])
    for flag, key, settings in reversed(
        (
            (
                "--source",
                "name",
                {"type": sources, "help": "Where descriptions come from. May be given several times."},
            ),
            (
                "--from",
                "location",
                {
                    "metavar": "PATH|URL|REPO_ID",
                    "help": "Folder or URL (pokeapi), file or pattern (table), Hub id or id:config (hub). Belongs to "
                    "the --source before it, as do the next six.",
                },
            ),
            ("--revision", "revision", {"help": "Revision of the source (pokeapi, hub)."}),
            ("--description-column", "description_column", {"help": "Column of the descriptions (table, hub)."}),
            ("--name-column", "name_column", {"help": "Column of the names (table, hub)."}),
            (
                "--name-language",
                "name_language",
                {"type": languages, "help": "Of the names. Default: by their letters."},
            ),
            ("--family-column", "family_column", {"help": "Column of what related creatures share (table, hub)."}),
            ("--encoding", "encoding", {"help": "Of a table's text, such as cp949. Default: detected."}),
        )
    ):
        command = click.option(flag, f"{SOURCE_PREFIX}{key}", multiple=True, **settings)(command)
    return command


@main.command(cls=SourceCommand)
@click.argument("out", type=PATH)
@recipe_option
@source_options
@click.option(
    "--description-language",
    "dataset__description_language",
    metavar="en|ko|en,ko",
    help="Languages of the descriptions.",
)
@click.option(
    "--answer",
    "dataset__answer",
    type=click.Choice(["en", "ko", "both"]),
    help="Language of the names that are answered.",
)
@click.option("--request", "dataset__request", help="What the user asks. Default: a Pokémon-style name, in Korean.")
@click.option(
    "--request-variants",
    "dataset__request_variants",
    type=click.IntRange(min=1),
    help="Draw the Korean request from so many paraphrases. 1: always the same.",
)
@click.option("--system", "dataset__system", help="A system turn before every conversation.")
@click.option("--mask", "dataset__mask", help="What stands in for the creature's own name, such as 'this dog'.")
@click.option("--max-characters", "dataset__max_characters", type=int, help="Longer descriptions are dropped.")
@click.option(
    "--validation-size", "dataset__validation_size", type=float, help="Share of a known creature's descriptions."
)
@click.option("--test-size", "dataset__test_size", type=float, help="Share of a known creature's descriptions.")
@click.option(
    "--unseen-size", "dataset__unseen_size", type=float, help="Share of the families that are held out whole."
)
@click.option("--seed", type=int, help="Decides the splits.")
@hub_options
@json_option
def build_dataset(
    out: Path, recipe_name: str, endpoint: str | None, token_file: Path | None, as_json: bool, **overrides: Any
) -> None:
    """Build a chat dataset from descriptions, and write it to the folder OUT with its validation and its card.

    \b
    pkt build-dataset data
    pkt build-dataset data --source pokeapi --from pokeapi/data/v2/csv
    pkt build-dataset data --source table --from mine.csv \\
        --description-column text --name-column name
    pkt build-dataset data --source corpus --source pokeapi

    Tables are .csv, .tsv, .jsonl, .ndjson or .json, also gzipped, or .parquet. PokéAPI's tables are fetched once and
    kept in PKT_CACHE, by default ~/.cache/pkt.
    """
    start(endpoint, token_file)
    overrides = {key: value for key, value in overrides.items() if not key.startswith(SOURCE_PREFIX)}
    recipe = load(recipe_name, **overrides)
    if given := click.get_current_context().meta[SOURCE_PREFIX]:
        from toolkit.recipe import gather_sources

        recipe = load(recipe_name, dataset__sources=gather_sources(given, recipe.dataset.sources), **overrides)
    from toolkit import build, show

    with show.counting() as count:
        result = build.build_dataset(out, recipe.dataset, recipe.seed, recipe.name, count)
    show.built(result, as_json)


@main.command()
@click.argument("dataset")
@click.option("--strict", is_flag=True, help="Warnings fail the check too.")
@click.option(
    "--tokenizer", metavar="BASE", help="Also check the chat contract and lengths with this base's tokenizer."
)
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="With --tokenizer: the most tokens that a conversation may have.",
)
@click.option("--revision", help="Commit, branch or tag of a dataset of the Hub. Default: the newest commit.")
@click.option("--output", type=PATH, help="Where the report is written. Default: validation.json in a folder DATASET.")
@hub_options
@json_option
def validate(
    dataset: str,
    strict: bool,
    tokenizer: str | None,
    max_length: int,
    revision: str | None,
    output: Path | None,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Check DATASET, a folder or a Hub id with a column `messages`. Exits 1 when something is wrong.

    What it can not check, it names, and why.
    """
    start(endpoint, token_file)
    from toolkit import bases, model, rows, show, validate

    located = rows.locate_dataset(dataset, revision)
    loaded = model.load_tokenizer(bases.locate_tokenizer(tokenizer)) if tokenizer else None
    with show.counting() as count:
        report = validate.validate_dataset(
            located.path, strict=strict, tokenizer=loaded, max_length=max_length, progress=count
        )
    unwritten = validate.write_report(report, located, output)
    show.validated(dataset, report, as_json, unwritten)
    sys.exit(0 if report.ok else 1)


@main.command()
@click.argument("dataset", type=PATH)
@click.argument("repo_id")
@click.option("--private", is_flag=True, help="Make the repository private when it is created.")
@click.option("--force", is_flag=True, help="Push it although it fails validation; its card then says so.")
@hub_options
@json_option
def push_dataset(
    dataset: Path,
    repo_id: str,
    private: bool,
    force: bool,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Upload the folder DATASET to the Hub as REPO_ID, in one commit. A dataset that fails validation is refused."""
    start(endpoint, token_file)
    from toolkit import hub, show

    show.published(hub.push_dataset(dataset, repo_id, private=private, force=force), as_json, train_from_it=True)


@main.command()
@click.argument("dataset")
@click.argument("out", type=PATH)
@recipe_option
@click.option("--dataset-revision", help="Commit, branch or tag of a DATASET on the Hub. Default: its newest commit.")
@click.option("--base", metavar="ID", help="Hub id of the model that is fine-tuned.")
@click.option("--base-revision", help="Commit, branch or tag of the base.")
@click.option("--learning-rate", "training__learning_rate", type=float)
@click.option(
    "--scheduler",
    "training__scheduler",
    type=click.Choice(["constant", "linear", "cosine"]),
    help="Of the learning rate.",
)
@click.option("--warmup-steps", "training__warmup_steps", type=int)
@click.option("--max-steps", "training__max_steps", type=int, help="Optimiser steps. Excludes --epochs.")
@click.option("--epochs", "training__epochs", type=float, help="Passes over the train split. Excludes --max-steps.")
@click.option("--batch-size", "training__batch_size", type=int, help="Examples in one optimiser step.")
@click.option(
    "--micro-batch-size",
    "training__micro_batch_size",
    metavar="N|auto",
    help="Examples in one forward pass. auto: as many as fit the memory.",
)
@click.option(
    "--gradient-checkpointing",
    "training__gradient_checkpointing",
    type=click.Choice(["auto", "on", "off"]),
    help="Compute activations twice to save memory. auto: only when one example does not fit.",
)
@click.option("--max-length", "training__max_length", type=int, help="Tokens of prompt and answer.")
@click.option("--optimizer", "training__optimizer", type=click.Choice(["adamw", "paged_adamw_8bit"]))
@click.option(
    "--quantization", "training__quantization", type=click.Choice(["nf4", "none"]), help="How the base is held."
)
@click.option("--save-every", "training__save_every", type=int, help="Optimiser steps between two checkpoints.")
@click.option(
    "--keep",
    "training__keep",
    type=click.Choice(["last", "best"]),
    help="Write the adapter of the last step, or of the lowest validation loss.",
)
@click.option(
    "--early-stopping",
    "training__early_stopping",
    type=int,
    metavar="N",
    help="Stop after N validation losses in a row without a lower one.",
)
@click.option(
    "--track",
    "training__track",
    type=click.Choice(["trackio", "tensorboard"]),
    multiple=True,
    callback=lambda _context, _parameter, given: list(given) or None,
    help="Draw the losses while training; the package must be installed. Repeat it for both.",
)
@click.option("--lora-r", "lora__r", type=int, help="Rank of the adapter.")
@click.option("--lora-alpha", "lora__alpha", type=float)
@click.option("--lora-dropout", "lora__dropout", type=float)
@click.option("--seed", type=int)
@click.option("--resume/--restart", default=True, show_default=True, help="Continue an interrupted run, or begin anew.")
@hub_options
@json_option
def train(
    dataset: str,
    out: Path,
    recipe_name: str,
    dataset_revision: str | None,
    resume: bool,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Fine-tune an adapter on DATASET, a folder or a Hub id, and write it to the folder OUT.

    An interrupted run continues when the same command is given again.
    """
    start(endpoint, token_file)
    recipe = load(recipe_name, **overrides)
    from toolkit import rows, show, train

    located = rows.locate_dataset(dataset, dataset_revision)
    with show.training() as progress:
        # "." and ".." are no names that checkpoints could lie beside.
        named = out.resolve() if out.name in ("", "..") else out
        result = train.train(located, named, recipe, restart=not resume, progress=progress, say=show.say)
    show.trained(result, as_json, dataset)


@main.command()
@click.argument("adapter", type=PATH)
@click.argument("dataset")
@click.option("--dataset-revision", help="Commit, branch or tag of a DATASET on the Hub. Default: its newest commit.")
@click.option(
    "--recipe", "recipe_name", metavar="NAME|FILE", help="Settings to start from. Default: those it was trained with."
)
@click.option(
    "--baselines",
    default="base,tfidf,chance",
    show_default=True,
    help="What stands beside the adapter, comma-separated.",
)
@click.option("--max-test", "evaluation__max_test", type=int, help="Rows of test that are ranked. Default: all.")
@click.option(
    "--max-unseen", "evaluation__max_unseen", type=int, help="Rows of unseen that names are sampled for. Default: all."
)
@click.option("--names-per-description", "evaluation__names_per_description", type=int)
@click.option(
    "--quantization", "evaluation__quantization", type=click.Choice(["nf4", "none"]), help="How the base is held."
)
@click.option("--seed", type=int, help="Decides the sampled names.")
@hub_options
@json_option
def evaluate(
    adapter: Path,
    dataset: str,
    dataset_revision: str | None,
    recipe_name: str | None,
    baselines: str,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Measure the folder ADAPTER on DATASET, beside its baselines, and write the figures and the card into ADAPTER."""
    start(endpoint, token_file)
    from toolkit import evaluate, folder, rows, show

    own = folder.read_manifest(adapter, "adapter").get("recipe")
    recipe = load(recipe_name or own, **overrides)
    compare = [name.strip() for name in baselines.split(",") if name.strip()]
    if unknown := set(compare) - set(evaluate.BASELINES):
        raise InputError(
            f"There is no baseline {sorted(unknown)[0]!r}.", f"Choose among {', '.join(evaluate.BASELINES)}."
        )
    located = rows.locate_dataset(dataset, dataset_revision)
    with show.counting() as count:
        result = evaluate.evaluate(
            adapter, located, recipe.evaluation, recipe.decoding, recipe.seed, compare=compare, progress=count
        )
    show.evaluated(result, as_json)


@main.command()
@click.argument("adapter", type=PATH)
@click.argument("repo_id")
@click.option("--dataset-repo", metavar="REPO_ID", help="The published dataset that it was trained on, for the card.")
@click.option("--private", is_flag=True, help="Make the repository private when it is created.")
@click.option("--dry-run", is_flag=True, help="Do everything but the upload.")
@hub_options
@json_option
def publish(
    adapter: Path,
    repo_id: str,
    dataset_repo: str | None,
    private: bool,
    dry_run: bool,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Publish the evaluated folder ADAPTER on the Hub as REPO_ID, with its card, in one commit."""
    start(endpoint, token_file)
    from toolkit import hub, show

    if dry_run:
        hub.prepare_publication(adapter, repo_id, dataset_repo)
        show.would_publish(adapter, repo_id, hub.publication_files(adapter), as_json)
    else:
        show.published(hub.publish(adapter, repo_id, dataset_repo=dataset_repo, private=private), as_json)


@main.command()
@click.argument("repo_id")
@click.option("--revision", help="Commit, branch or tag. Default: the newest commit.")
@hub_options
@json_option
def verify(repo_id: str, revision: str | None, endpoint: str | None, token_file: Path | None, as_json: bool) -> None:
    """Load the published adapter REPO_ID in a clean process and reproduce its card's samples.

    Exits 1 when they differ.
    """
    start(endpoint, token_file)
    from toolkit import show, verify

    result = verify.verify(repo_id, revision)
    show.verified(result, as_json)
    sys.exit(0 if result.ok else 1)


def adapter_option(command: Command) -> Command:
    """`--adapter`."""
    return click.option("--adapter", required=True, metavar="FOLDER|REPO_ID", help="The adapter that answers.")(command)


@main.command()
@click.argument("description")
@adapter_option
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
    description: str, adapter: str, count: int, seed: int, endpoint: str | None, token_file: Path | None, as_json: bool
) -> None:
    """Invent names for the creature in DESCRIPTION."""
    start(endpoint, token_file)
    from toolkit import model, naming, show

    show.names(naming.name(model.locate_adapter(adapter), description, count, seed), as_json)


@main.command()
@click.argument("description")
@adapter_option
@click.option("--top", default=5, show_default=True, type=click.IntRange(1, 100), help="How many candidates.")
@hub_options
@json_option
def identify(
    description: str, adapter: str, top: int, endpoint: str | None, token_file: Path | None, as_json: bool
) -> None:
    """Say which of the creatures that the adapter learnt DESCRIPTION is about."""
    start(endpoint, token_file)
    from toolkit import model, naming, show

    show.candidates(naming.identify(model.locate_adapter(adapter), description, top), as_json)


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
    from toolkit import road, show

    with show.road() as watching:
        result = road.run(recipe, out, road.Watchers(*watching, show.say), restart=not resume)
    show.travelled(result, as_json)


@main.command()
@click.argument("folder", type=PATH)
@click.option("--output", type=PATH, help="Where the page is written. Default: a temporary file.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page.")
def preview(folder: Path, output: Path | None, browser: bool) -> None:
    """Show the card of FOLDER, a dataset or an adapter, as the Hub will."""
    from toolkit import preview, show

    page = preview.write_preview(folder, output or Path(tempfile.mkdtemp(prefix="pkt-preview-")) / "card.html")
    show.page(page, open_browser=browser)


@main.group()
def hub() -> None:
    """A Hub of your own, in a folder."""


@hub.command()
@click.argument("root", type=PATH)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def serve(root: Path, host: str, port: int) -> None:
    """Serve the Hub in the folder ROOT to huggingface_hub, datasets, transformers and peft, until Ctrl-C.

    It needs no account: whoever reaches it may read and write. The tiny base of the demo is in it from the start.
    """
    from toolkit import show
    from toolkit.local_hub import serve as server

    quieten()

    def fill(endpoint: str) -> None:
        start(endpoint)
        from toolkit import hub

        hub.push_tiny_base()

    server.serve_forever(root, host, port, show.hub_is_ready, fill)


@main.command()
@hub_options
@json_option
def doctor(endpoint: str | None, token_file: Path | None, as_json: bool) -> None:
    """Say what this machine can do, and what is missing for what."""
    start(endpoint, token_file)
    from toolkit import doctor, show

    show.diagnosed(doctor.diagnose(), as_json)
