"""Results for people, each with the next command, or as JSON where `--json` was given."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from toolkit.cards.labels import INVENTION, SHORT_LABELS
from toolkit.cli.options import program
from toolkit.cli.output import Output, answer_line
from toolkit.core import duration, size
from toolkit.core.errors import CheckFailed
from toolkit.core.folder import read_json
from toolkit.core.layout import CARD
from toolkit.core.listen import is_loopback
from toolkit.core.names import is_well_formed
from toolkit.core.results import Score, format_estimate
from toolkit.core.text import printable

if TYPE_CHECKING:
    from toolkit.data.build import BuildResult
    from toolkit.data.inspect import DatasetReport
    from toolkit.data.validation.findings import Finding, Report
    from toolkit.hub.base import ImportedBase
    from toolkit.hub.publish import Published
    from toolkit.hub.upload import Plan
    from toolkit.hub.verify import Verification
    from toolkit.model import doctor
    from toolkit.model.bulk import AnswersWritten
    from toolkit.model.export import Exported
    from toolkit.model.inspect import AdapterReport, Section
    from toolkit.model.merge import Merged
    from toolkit.model.naming import Identified, InventedName, Named
    from toolkit.run import RunResult
    from toolkit.sweep import SweepResult
    from toolkit.training.train import TrainResult

# What an upload does to a file, the most important first.
STATES = {
    "new": "new",
    "changed": "changed",
    "deleted": "would be deleted",
    "kept": "not pkt's, stays",
    "same": "same",
}
SHOWN = 10
# Of a list in a line, and characters from which on one is enough; how a tool's use of an adapter is marked.
LISTED, LONG = 7, 40
MARKS = {True: "✓", False: "✗", None: "?"}
WIDEST_LABEL = 22
LONGEST_TABLE = 30


def built(out: Output, result: BuildResult) -> None:
    """A dataset that was built."""
    if out.wrote_json(result):
        return
    table = _table("split", Column("rows", justify="right"))
    for split, rows in result.rows.items():
        table.add_row(split, f"{rows:,}")
    out.show(table)
    for reason, count in result.dropped.items():
        out.say(f"dropped, {reason}: {count:,}")
    out.say(f"{result.creatures:,} creatures in {result.families:,} families, {duration(result.seconds)}.")
    for note in result.notes:
        out.say(note)
    counted = ", ".join(f"{finding['code']} {finding['count']:,}" for finding in result.validation["findings"])
    verdict = "passes" if result.validation["ok"] else "does not pass"
    out.say(f"It {verdict} validation{f' ({counted})' if counted else ''}.")
    out.say(f"The dataset and its card are in {result.path}. Look at it with `{program()} preview {result.path}`.")


def validated(out: Output, dataset: str, report: Report) -> None:
    """A validation report."""
    if out.wrote_json(report.to_json()):
        return
    width = max((len(finding.code) for finding in report.findings), default=0)
    for number, finding in enumerate(report.findings):
        _finding(out, finding, width, heading=number == 0)
    for reason in dict.fromkeys(skipped.reason for skipped in report.skipped):
        codes = ", ".join(skipped.code for skipped in report.skipped if skipped.reason == reason)
        out.say(f"not checked: {codes} ({reason})")
    verdict = "passes" if report.ok else "does not pass"
    out.say(f"{dataset} {verdict}: {sum(report.rows.values()):,} rows in {', '.join(report.rows) or 'no split'}.")


def _finding(out: Output, finding: Finding, width: int, *, heading: bool) -> None:
    columns = (Column("code", width=width), Column("severity", width=8), Column("count", width=9, justify="right"))
    table = _table(*columns, "what it finds", show_header=heading)
    style = "bold red" if finding.severity == "error" else "bold yellow"
    table.add_row(finding.code, finding.severity, f"{finding.count:,}", finding.what, style=style)
    out.show(table)
    for place in finding.places:
        row = f" row {place.row}" if place.row is not None else ""
        where = f"{place.split}{row}{f' ({place.id})' if place.id else ''}"
        out.show(Padding(Text(f"{where}: {place.excerpt}" if place.excerpt else where), (0, 0, 0, 2)))
    if finding.count > len(finding.places):
        out.say(f"  and {finding.count - len(finding.places):,} more")


def trained(out: Output, result: TrainResult, dataset: str | None) -> None:
    """An adapter that was trained, and on which dataset it can be measured; None where its own holds out no rows."""
    if out.wrote_json(result):
        return
    resumed = f", continued from step {result.resumed_from}" if result.resumed_from else ""
    out.say(f"{result.steps:,} steps, {result.epochs:.1f} epochs, in {duration(result.seconds)}{resumed}.")
    best = f", the lowest, at step {result.best_step:,}" if result.best_step is not None else ""
    table = _table(Column(style="dim"), Column(), show_header=False)
    if result.loss is not None:
        table.add_row("  loss", f"{result.loss:.3f}")
    if result.validation_loss is not None:
        table.add_row("  validation loss", f"{result.validation_loss:.3f}{best}")
    if result.tokens_per_second is not None:
        table.add_row("  pace", f"{result.tokens_per_second:,.0f} tokens/s")
    table.add_row("  peak memory", size(result.peak_memory_bytes))
    table.add_row("  adapter", str(result.adapter))
    out.show(table)
    other = "" if dataset else ", a dataset with a split test, which this one lacks"
    out.say(f"Measure it with `{program()} evaluate {result.adapter} {dataset or 'DATASET'}`{other}.")


def evaluated(out: Output, evaluation: Mapping[str, Any]) -> None:
    """The figures of an evaluation beside the baselines."""
    if out.wrote_json(evaluation):
        return
    if evaluation["test"]:
        _identification(out, evaluation["test"], evaluation["candidates"])
    if evaluation["unseen"]:
        _invention(out, evaluation["unseen"])


def _identification(out: Output, test: Mapping[str, Any], candidates: int) -> None:
    out.say(f"Known creatures, {test['rows']:,} descriptions never seen, {candidates:,} candidate names:")
    columns = [Column(key, justify="right", overflow="fold") for key in ("top-1", "top-5", "MRR", "exact")]
    table = _table(Column(overflow="fold"), *columns)
    shuffled = test["shuffled"]
    shown = test["methods"] | ({"shuffled": shuffled["figures"]} if shuffled else {})
    for method, scores in shown.items():
        shares = [_share(scores[key]) for key in ("top1", "top5")]
        exact = f"{scores['exact']['value']:.1%}" if "exact" in scores else ""
        table.add_row(_label(method), *shares, f"{scores['mrr']['value']:.3f}", exact)
    out.show(table)
    if shuffled and shuffled["reads"] is False:
        out.say("It does not read: with the descriptions of other creatures it does as well, or it is at chance.")
    for method, difference in test["differences"].items():
        out.say(f"  {_difference(difference['top1'])} top-1 than {_label(method)}")


def _difference(score: Mapping[str, float]) -> str:
    """A difference of two shares in points, with its interval."""
    more = "more" if score["value"] >= 0 else "fewer"
    interval = f" ({100 * score['low']:+.1f} to {100 * score['high']:+.1f})" if "low" in score else ""
    return f"{abs(100 * score['value']):.1f} points {more}{interval}"


def _invention(out: Output, unseen: Mapping[str, Any]) -> None:
    methods, order = unseen["methods"], list(INVENTION["en"])
    names = methods["adapter"]["names"]
    out.say(f"Creatures never seen, {names:,} names for {unseen['rows']:,} descriptions:")
    columns = [Column(_label(method), justify="right", overflow="fold") for method in methods]
    table = _table(Column(overflow="fold"), *columns)
    # Of another adapter too: the intervals on lines of their own, so that 80 columns hold five methods.
    table.collapse_padding = wide = len(methods) > 3
    measured = [key for key, value in methods["adapter"].items() if isinstance(value, Mapping)]
    for key in sorted(measured, key=lambda key: (order.index(key) if key in order else len(order), key)):
        shares = [_share(scores.get(key)) for scores in methods.values()]
        table.add_row(key.replace("_", " "), *(share.replace(" (", "\n(") if wide else share for share in shares))
    out.show(table)


def _label(method: str) -> str:
    label = SHORT_LABELS.get(method, method)
    return label if len(label) <= WIDEST_LABEL else f"…{label[1 - WIDEST_LABEL :]}"


def _share(score: Mapping[str, float] | None) -> str:
    return format_estimate(Score.model_validate(score)) or "" if score else ""


def ran(out: Output, result: RunResult, hub: Path | None = None) -> None:
    """The summary of a whole run, whose local Hub may lie in another folder than its own."""
    if out.wrote_json(result):
        return
    out.show("")
    evaluated(out, result.evaluation)
    unseen = [sample for sample in result.samples if sample["split"] == "unseen"][:3]
    if unseen:
        out.say("\nNew names that it gave to the first three of them:")
        for sample in unseen:
            drawn = sample.get("new_names") or sample["names"]
            # Those that `pkt name` could give; of answers that are no names, all.
            out.say(f"  {printable(', '.join(dict.fromkeys(filter(is_well_formed, drawn)) or drawn))}")
            out.show(Padding(Text(sample["description"], style="dim"), (0, 0, 0, 4)))
    adapter, pkt = result.out / "adapter", program()
    out.say(f"\nThe card is {adapter / CARD}. What to do next:")
    out.say(f"  {pkt} preview {adapter}")
    out.say(f'  {pkt} name "A small fox with a tail of blue flame" --adapter {adapter}')
    if result.published is not None:
        out.say(
            f"  {pkt} hub serve {(hub or result.out) / 'hub'}    and load {result.published.repo_id} from it with peft"
        )
    else:
        out.say(f"  {pkt} publish {adapter} YOUR-NAME/YOUR-ADAPTER")


def merged(out: Output, result: Merged) -> None:
    """A merged model, and what it was compared on."""
    if out.wrote_json(result):
        return
    for difference in result.differences:
        out.say(f"sample {difference['id']}: {difference['merged']}, where the adapter says {difference['adapter']}")
    same = result.samples - len(result.differences)
    checked = f"{same} of {result.samples} samples have the adapter's greedy name"
    out.say(f"{result.path} holds the merged model, {size(result.bytes)} in {result.dtype}: {checked}.")


def exported(out: Output, result: Exported) -> None:
    """A GGUF file, and how llama.cpp's answers differ from the adapter's."""
    if out.wrote_json(result):
        return
    if check := result.check:
        for one in check["differences"]:
            out.say(f"sample {one['id']}: {one['exported']}, where the adapter says {one['adapter']}")
        same = check["samples"] - len(check["differences"])
        out.say(f"llama.cpp gives {same} of {check['samples']} samples the adapter's greedy name.")
        out.say(
            f"Log-likelihoods of {check['names']} names differ by {check['mean']} nats on average, and by "
            f"{check['largest']} at most."
        )
    out.say(f"{result.path / result.file} is written, {size(result.bytes)}, and a Modelfile beside it.")


def imported(out: Output, result: ImportedBase) -> None:
    """A base on a local Hub, and how to train on it."""
    if out.wrote_json(result):
        return
    facts, check = result.facts, result.facts["check"]
    gguf = facts["gguf"]
    out.say(
        f"{result.repo_id} {'is' if result.changed else 'was already'} on the Hub in {result.hub}: "
        f"{facts['architecture']}, {facts['parameters']:,} parameters, "
        f"{'dequantised from' if gguf['quantised'] else 'from'} {gguf['types'][0]}, {facts['license'] or 'no licence'}."
    )
    out.say(f"A plain sentence costs it {check['loss']} nats a token, guessing {check['chance']}.")
    out.say(
        f"To train on it: `{program()} hub serve {shlex.quote(str(result.hub))}`, then --base {result.repo_id} there."
    )


def published(out: Output, result: Published, *, train_from_it: bool = False) -> None:
    """What is on a Hub now; of a dataset also how to train from it."""
    if out.wrote_json(result):
        return
    for note in result.notes:
        out.say(note)
    if result.pull_request:
        out.say(f"{result.pull_request} waits for its owners to merge it, at revision {result.revision}.")
        return
    seen = " (private)" if result.private else ""
    tag = f", tagged {result.tag}" if result.tag else ""
    out.say(f"{result.url}{seen} {'is at' if result.changed else 'was already at'} revision {result.revision}{tag}.")
    if result.space:
        out.say(f"The page to try it is {result.space}.")
    if train_from_it:
        out.say(f"Train from it with `{program()} train {result.repo_id} OUT --dataset-revision {result.revision}`.")


def would_publish(out: Output, plan: Plan, folder: Path) -> None:
    """What a publication would upload, file by file, and where its card lies."""
    remote, card = plan.remote, folder / CARD
    facts = {
        "repo_id": remote.repo_id,
        "revision": remote.revision,
        "private": remote.private,
        "pull_request": plan.pull_request.url if plan.pull_request else None,
        "files": [asdict(change) for change in plan.changes],
        "left": plan.left,
        "notes": plan.notes,
        "card": str(card),
    }
    if out.wrote_json(facts):
        return
    table = _table(Column("bytes", justify="right"), "", Column("file", overflow="fold"))
    for state, label in STATES.items():
        for change in plan.of(state):
            style = "dim" if state in ("same", "kept") else ""
            table.add_row(f"{change.size:,}", label, Text(change.name), style=style)
    out.show(table)
    if plan.left:
        more = f" and {len(plan.left) - SHOWN} more" if len(plan.left) > SHOWN else ""
        out.say(f"stays here, since no step wrote it for others: {', '.join(plan.left[:SHOWN])}{more}")
    for note in plan.notes:
        out.say(note)
    out.say(f"The card as it would be published is {card}. Look at it with `{program()} preview {folder}`.")
    out.say(f"{_outcome(plan)} Nothing was uploaded.")


def _outcome(plan: Plan) -> str:
    remote, sent, deleted = plan.remote, plan.of("new", "changed"), len(plan.of("deleted"))
    if plan.unchanged and plan.pull_request is not None:
        return (
            f"Your pull request {plan.pull_request.url} proposes exactly this already, at revision {remote.revision}."
        )
    if plan.unchanged:
        return f"{remote.repo_id} holds all of it already, at revision {remote.revision}."
    target = f"a new pull request for {remote.repo_id}" if plan.proposes else remote.repo_id
    target = f"your pull request {plan.pull_request.url}" if plan.pull_request is not None else target
    there = f"at {remote.revision[:12]}" if remote.revision else "which does not exist yet"
    gone = f" and {_files(deleted)} would be deleted" if deleted else ""
    return f"{_files(len(sent))} ({sum(change.size for change in sent):,} bytes) would go to {target}, {there}{gone}."


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def verified(out: Output, result: Verification) -> None:
    """A verification, its verdict last."""
    if out.wrote_json(asdict(result) | {"ok": result.ok}):
        return
    for difference in result.differences:
        out.console.print(Text(f"✗ {difference}", style="red"), soft_wrap=True)
    for note in result.notes:
        out.console.print(Text(f"· {note}"), soft_wrap=True)
    if result.printed:
        out.say("The card's own code ran and printed:")
        out.show(Padding(Text(result.printed), (0, 0, 0, 2)))
    count = len(result.differences)
    outcome = "reproduced" if result.ok else f"{count} difference{'s' * (count != 1)}"
    out.say(f"{result.repo_id} at {result.revision[:12]}: {result.files} files, {result.samples} samples: {outcome}.")


def named(out: Output, result: Named, *, wanted: int, one_of_several: bool) -> None:
    """Names with their probabilities and how new they are, and the known creatures nearest to the description."""
    if _answered(out, result, one_of_several):
        return
    _candidates([(name.probability, f"{name.name}{_newness(name)}") for name in result.names])
    if result.nearest:
        click.echo(answer_line("Nearest known creatures:"))
        _candidates([(candidate.probability, candidate.name) for candidate in result.nearest])
    if one_of_several:
        click.echo()
    if len(result.names) < wanted:
        out.say(f"{len(result.names)} of {wanted} names: more draws gave none that is another.")


def _newness(name: InventedName) -> str:
    """How new a name is, where names are known."""
    if name.known or name.distance is None:
        return "  (known)" if name.known else ""
    return f"  ({name.distance} letter{'s' if name.distance > 1 else ''} from {name.nearest})"


def identified(out: Output, result: Identified, *, one_of_several: bool) -> None:
    """Candidates with their probabilities."""
    if not _answered(out, result, one_of_several):
        _candidates([(candidate.probability, candidate.name) for candidate in result.candidates])
        if one_of_several:
            click.echo()


def answers_written(out: Output, result: AnswersWritten) -> None:
    """A file of answers, and how many descriptions could not be asked."""
    if out.wrote_json(result):
        return
    refused = f"; {result.refused:,} could not be asked, and `error` says why" if result.refused else ""
    out.say(f"{result.descriptions:,} descriptions in {result.file}{refused}.")


def _answered(out: Output, result: Named | Identified, one_of_several: bool) -> bool:
    """Print JSON where it is wanted, a line for each of several; else say which of several is answered."""
    if out.wrote_json(result, in_a_line=one_of_several):
        return True
    if one_of_several:
        click.secho(answer_line(result.description), bold=True)
    return False


def _candidates(candidates: Sequence[tuple[float, str]]) -> None:
    for probability, text in candidates:
        share = f"{probability:.1%}" if probability >= 0.0005 else "<0.1%"
        click.echo(answer_line(f"{share:>6}  {text}"))


def hub_is_ready(out: Output, endpoint: str, token_file: Path, host: str) -> None:
    """A local Hub that listens on `host`. The token itself is shown to a person at a terminal only, never to a log."""
    out.say(f"The Hub is at {endpoint}, which a browser can open. In another terminal:")
    out.say(f"  export HF_ENDPOINT={endpoint} HF_HUB_DISABLE_XET=1")
    out.say(f'  export HF_TOKEN="$(cat {shlex.quote(str(token_file.absolute()))})"')
    if out.console.is_terminal:
        token = token_file.read_text(encoding="utf-8").strip()
        out.say(f"The token, for writing and for private repositories: {token}")
    if not is_loopback(host):
        out.say("Warning: other machines can reach it, and what they send and read, the token too, is not encrypted.")
    out.say("Stop it with Ctrl-C.")


def diagnosed(out: Output, diagnoses: Sequence[doctor.Diagnosis]) -> None:
    """What the machine can do."""
    if out.wrote_json([asdict(diagnosis) for diagnosis in diagnoses]):
        return
    table = _table(Column(), Column(no_wrap=True), Column(overflow="fold"), show_header=False)
    for each in diagnoses:
        mark = {"ok": "✓", "missing": "✗", "note": "·"}[each.state]
        table.add_row(mark, each.what, Text("\n".join(filter(None, (each.found, each.means)))))
    out.show(table)


def inspected(out: Output, report: AdapterReport) -> None:
    """What an adapter is, a section each, what can be done with it, and its verdict last."""
    if out.wrote_json({"ok": report.ok} | asdict(report)):
        return
    page = _table(Column(no_wrap=True), Column(overflow="fold"), show_header=False)
    for name, section in report.sections.items():
        lines = [f"not known: {section.unknown}"] if section.unknown else [_facts(section)]
        for line in (*lines, *(f"! {note}" for note in section.notes)):
            page.add_row(name, Text(printable(line)))
            name = ""
    for use in report.uses:
        page.add_row(use.tool, Text(printable(f"{MARKS[use.works]} {'; '.join(use.why)}")))
    out.show(page)
    for problem in report.problems:
        out.show(Text(printable(f"✗ {problem}")))
    unknown = ", ".join(name for name in ("tensors", "tokenizer", "fit", "change") if report.sections[name].unknown)
    sound = f"not broken in what was looked at; not known: {unknown}" if unknown else "sound"
    out.say(f"{report.adapter} is {sound if report.ok else 'broken'}.")


def _facts(section: Section) -> str:
    """Facts behind their names; of one that is simply true the name says all, and what there is none of is left out."""
    none: tuple[Any, ...] = (None, [], (), {})
    return "; ".join(
        name if fact is True else f"{name} {_value(name, fact)}"
        for name, fact in ((name.replace("_", " "), fact) for name, fact in section.facts.items())
        if fact is not False and fact not in none
    )


def _value(name: str, fact: Any) -> str:
    if isinstance(fact, dict):
        fact = [f"{key} {value}" for key, value in fact.items()]
    if isinstance(fact, (list, tuple)):
        shown = 1 if max(map(len, map(str, fact)), default=0) > LONG else LISTED
        more = [f"and {len(fact) - shown} more"] if len(fact) > shown else []
        return ", ".join([*(_value(name, each) for each in fact[:shown]), *more])
    if isinstance(fact, float):
        return f"{fact:.0%}" if "share" in name else f"{fact:g}"
    return size(fact) if name == "bytes" else f"{fact:,}" if isinstance(fact, int) else str(fact)


def row_shown(out: Output, report: DatasetReport) -> None:
    """The splits, and a row: what is supervised comes last, behind a mark."""
    if out.wrote_json(report):
        return
    at = f" at {report.revision}" if report.revision else ""
    made = f", made by pkt {report.toolkit}" if report.toolkit else ""
    out.say(f"The dataset {report.id}{at}{made}: {_value('', report.rows)}.")
    named = f" ({report.row_id})" if report.row_id is not None else ""
    out.say(
        f"Row {report.row} of {report.split}{named} in {report.tokens} tokens of {report.base}. "
        f"Training learns {report.supervised} of them, behind ▶:"
    )
    for mark, supervised in ((" ", False), ("▶", True)):
        pieces = [piece for piece in report.pieces if piece.supervised is supervised]
        tokens = (printable(piece.text) + f"×{len(piece.ids)}" * (len(piece.ids) > 1) for piece in pieces)
        # A line of the text is one here too.
        out.show(Text(f"{mark} " + "│".join(tokens).replace("\\n│", "\\n\n  "), overflow="fold"))


def _table(*columns: Column | str, show_header: bool = True) -> Table:
    return Table(*columns, box=None, pad_edge=False, show_header=show_header)


def swept(out: Output, result: SweepResult) -> None:
    """The runs of a sweep, the best first, and then the summary of that one.

    Raises:
        CheckFailed: Some of them failed.
    """
    failed = [trial for trial in result.trials if trial.error is not None]
    best = asdict(result.best) if result.best else None
    if not out.wrote_json(read_json(result.out / "sweep.json") | {"best": best}):
        figures = [Column(key, justify="right") for key in ("MRR on validation", "top-1", "loss")]
        table = _table("", Column("run", overflow="fold"), *figures)
        for trial in result.trials[:LONGEST_TABLE]:
            loss = "" if trial.validation_loss is None else f"{trial.validation_loss:.3f}"
            top1 = f"{trial.scores['top1']['value']:.1%}" if trial.scores else ""
            mark = "★" if result.best and trial is result.trials[0] else ""
            table.add_row(mark, Text(trial.name), format_estimate(trial.score, "plain") or "failed", top1, loss)
        out.show("", table)
        for trial in failed:
            out.say(f"{trial.name} failed: {printable(str(trial.error))}")
        out.say(f"{result.tried:,} runs tried; {result.out / 'sweep.json'} and sweep.png show all.")
        if result.best is not None:
            out.say("★ is the best on validation, and the only one measured on test and unseen:")
            ran(out, result.best, result.out)
    if failed:
        raise CheckFailed(
            f"{len(failed):,} of {len(result.trials):,} runs failed, so nothing was published.",
            "The same command runs them again.",
        )
