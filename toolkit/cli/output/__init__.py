"""What a terminal shows: progress and tables on standard error, results for machines on standard output.

Called by the command line alone; what it shows was worked out elsewhere.
"""

from __future__ import annotations

import shlex
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from toolkit.cli.output.evaluation import evaluated as evaluated
from toolkit.cli.output.evaluation import figures
from toolkit.cli.output.merging import app_is_ready as app_is_ready
from toolkit.cli.output.merging import merged as merged
from toolkit.cli.output.progress import counting as counting
from toolkit.cli.output.progress import road as road
from toolkit.cli.output.progress import training as training
from toolkit.cli.output.progress import waiting as waiting
from toolkit.cli.output.publishing import published as published
from toolkit.cli.output.publishing import verified as verified
from toolkit.cli.output.publishing import would_publish as would_publish
from toolkit.cli.output.terminal import CONSOLE, as_json, program
from toolkit.cli.output.terminal import say as say
from toolkit.core.format import duration, size
from toolkit.core.hub_client import is_loopback


def built(result: Any, json_wanted: bool) -> None:
    """A dataset that was built."""
    if json_wanted:
        as_json(asdict(result))
        return
    table = Table("split", Column("rows", justify="right"), box=None, pad_edge=False)
    for split, rows in result.rows.items():
        table.add_row(split, f"{rows:,}")
    CONSOLE.print(table)
    for reason, count in result.dropped.items():
        say(f"dropped, {reason}: {count:,}")
    say(f"{result.creatures:,} creatures in {result.families:,} families, {duration(result.seconds)}.")
    for note in result.notes:
        say(note)
    counted = ", ".join(f"{finding['code']} {finding['count']:,}" for finding in result.validation["findings"])
    verdict = "passes" if result.validation["ok"] else "does not pass"
    say(f"It {verdict} validation{f' ({counted})' if counted else ''}.")
    say(f"The dataset and its card are in {result.path}. Look at it with `{program()} preview {result.path}`.")


def validated(dataset: str, report: Any, json_wanted: bool, unwritten: Exception | None = None) -> None:
    """A validation report, and why it could not be written where it belongs."""
    if unwritten is not None:
        say(str(unwritten))
    if json_wanted:
        as_json(report.to_json())
        return
    width = max((len(finding.code) for finding in report.findings), default=0)
    for number, finding in enumerate(report.findings):
        columns = (Column("code", width=width), Column("severity", width=8), Column("count", width=9, justify="right"))
        table = Table(*columns, "what it finds", box=None, pad_edge=False, show_header=number == 0)
        style = "bold red" if finding.severity == "error" else "bold yellow"
        table.add_row(finding.code, finding.severity, f"{finding.count:,}", finding.what, style=style)
        CONSOLE.print(table)
        for place in finding.places:
            row = f" row {place.row}" if place.row is not None else ""
            where = f"{place.split}{row}{f' ({place.id})' if place.id else ''}"
            CONSOLE.print(Padding(Text(f"{where}: {place.excerpt}" if place.excerpt else where), (0, 0, 0, 2)))
        if finding.count > len(finding.places):
            say(f"  and {finding.count - len(finding.places):,} more")
    for reason in dict.fromkeys(skipped.reason for skipped in report.skipped):
        codes = ", ".join(skipped.code for skipped in report.skipped if skipped.reason == reason)
        say(f"not checked: {codes} ({reason})")
    verdict = "passes" if report.ok else "does not pass"
    say(f"{dataset} {verdict}: {sum(report.rows.values()):,} rows in {', '.join(report.rows)}.")


def trained(result: Any, json_wanted: bool, dataset: str | None = None) -> None:
    """An adapter that was trained, and on which dataset it can be measured."""
    if json_wanted:
        as_json(asdict(result))
        return
    resumed = f", continued from step {result.resumed_from}" if result.resumed_from else ""
    say(f"{result.steps:,} steps, {result.epochs:.1f} epochs, in {duration(result.seconds)}{resumed}.")
    table = Table(Column(style="dim"), Column(), box=None, pad_edge=False, show_header=False)
    for what, found in _training_facts(result):
        table.add_row(f"  {what}", found)
    CONSOLE.print(table)
    say(f"Measure it with `{program()} evaluate {result.adapter} {dataset or 'DATASET'}`.")


def _training_facts(result: Any) -> list[tuple[str, str]]:
    """What is known of a training, each with its name; what was not measured is left out."""
    best = f", the lowest, at step {result.best_step:,}" if result.best_step is not None else ""
    return [
        *([("loss", f"{result.loss:.3f}")] if result.loss is not None else []),
        *([("validation loss", f"{result.validation_loss:.3f}{best}")] if result.validation_loss is not None else []),
        *([("pace", f"{result.tokens_per_second:,.0f} tokens/s")] if result.tokens_per_second is not None else []),
        ("peak memory", size(result.peak_memory_bytes)),
        ("adapter", str(result.adapter)),
    ]


def travelled(result: Any, json_wanted: bool) -> None:
    """The summary of a whole run."""
    if json_wanted:
        as_json(asdict(result))
        return
    CONSOLE.print()
    figures(result.evaluation)
    unseen = [sample for sample in result.samples if sample["split"] == "unseen"][:3]
    if unseen:
        say("\nThe names it gave to the first three of them:")
        for sample in unseen:
            say(f"  {', '.join(sample['names'])}")
            CONSOLE.print(Padding(Text(sample["description"], style="dim"), (0, 0, 0, 4)))
    adapter, pkt = result.out / "adapter", program()
    say(f"\nThe card is {adapter / 'README.md'}. What to do next:")
    say(f"  {pkt} preview {adapter}")
    say(f'  {pkt} name "A small fox with a tail of blue flame" --adapter {adapter}')
    if result.published is not None:
        say(f"  {pkt} hub serve {result.out / 'hub'}    and load {result.published.repo_id} from it with peft")
    else:
        say(f"  {pkt} publish {adapter} YOUR-NAME/YOUR-ADAPTER")


def page(path: Path, *, open_browser: bool) -> None:
    """A preview that was written."""
    say(f"The card is in {path}.")
    if open_browser:
        webbrowser.open(path.absolute().as_uri())


def hub_is_ready(endpoint: str, token_file: Path, host: str) -> None:
    """A local Hub that listens on `host`. The token itself is shown to a person at a terminal only, never to a log."""
    say(f"The Hub is at {endpoint}, which a browser can open. In another terminal:")
    say(f"  export HF_ENDPOINT={endpoint} HF_HUB_DISABLE_XET=1")
    say(f'  export HF_TOKEN="$(cat {shlex.quote(str(token_file.absolute()))})"')
    if CONSOLE.is_terminal:
        say(f"The token, for writing and for private repositories: {token_file.read_text(encoding='utf-8').strip()}")
    if not is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}"):
        say("Warning: other machines can reach it, and what they send and read, the token too, is not encrypted.")
    say("Stop it with Ctrl-C.")


def diagnosed(findings: Sequence[Any], json_wanted: bool) -> None:
    """What the machine can do."""
    if json_wanted:
        as_json([asdict(finding) for finding in findings])
        return
    folded = [Column(heading, overflow="fold") for heading in ("found", "means")]
    table = Table("", "what", *folded, box=None, pad_edge=False)
    for finding in findings:
        table.add_row(
            {"ok": "✓", "missing": "✗", "note": "·"}[finding.state], finding.what, finding.found, finding.means
        )
    CONSOLE.print(table)
