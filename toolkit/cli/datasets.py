"""Commands about datasets: build, validate, push."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from toolkit.cli.group import (
    PATH,
    Command,
    Verb,
    hub_options,
    json_option,
    load,
    main,
    publish_options,
    recipe_option,
    start,
)

SOURCE_PREFIX = "source__"


class SourceCommand(Verb):
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
        from toolkit.core.recipe import gather_sources

        recipe = load(recipe_name, dataset__sources=gather_sources(given, recipe.dataset.sources), **overrides)
    from toolkit.cli import output as show
    from toolkit.data import build

    with show.counting() as count:
        result = build.build_dataset(out, recipe, progress=count)
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
    from toolkit.cli import output as show
    from toolkit.data import validation

    with show.counting() as count:
        report = validation.validate(
            dataset, revision=revision, strict=strict, base=tokenizer, max_length=max_length, progress=count
        )
    unwritten = validation.write_report(report, dataset, output)
    show.validated(dataset, report, as_json, unwritten)
    sys.exit(0 if report.ok else 1)


@main.command()
@click.argument("dataset", type=PATH)
@click.argument("repo_id")
@click.option("--force", is_flag=True, help="Push it although it fails validation; its card then says so.")
@publish_options
@hub_options
@json_option
def push_dataset(
    dataset: Path,
    repo_id: str,
    force: bool,
    private: bool | None,
    tag: str | None,
    create_pr: bool,
    overwrite_card: bool,
    dry_run: bool,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Upload the folder DATASET to the Hub as REPO_ID, in one commit. A dataset that fails validation is refused.

    A new repository is private until all of it is there. When it is interrupted, the same command finishes it; when
    nothing changed, nothing is uploaded.
    """
    start(endpoint, token_file)
    from toolkit.cli import output as show
    from toolkit.hub import publish

    options = publish.Options(private, tag, create_pr, overwrite_card)
    if dry_run:
        show.would_publish(publish.prepare_dataset(dataset, repo_id, options, force=force), dataset, as_json)
    else:
        show.published(publish.push_dataset(dataset, repo_id, options, force=force), as_json, train_from_it=True)
