"""What a command prints: notes and progress for people on standard error, results for machines on standard output."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from toolkit.cli.options import with_options
from toolkit.core import Progress, duration, size
from toolkit.core.text import printable

if TYPE_CHECKING:
    from toolkit.training.progress import TrainingProgress

# Seconds between two plain lines of progress, and before which work is too short to show any.
PLAIN_SECONDS, PATIENCE = 5.0, 1.0


class Output:
    """Prints a command's result as JSON, or as text for people."""

    def __init__(self, *, as_json: bool = False, console: Console | None = None) -> None:
        self.as_json = as_json
        self.console = console or Console(stderr=True, highlight=False)

    @property
    def moves(self) -> bool:
        """Whether lines can be drawn anew: not in a log, nor in a dumb terminal, such as Emacs's shell."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def say(self, text: str) -> None:
        """Print a line for people; Python arguments and settings in it become the running command's options."""
        context = click.get_current_context(silent=True)
        self.console.print(with_options(text, context) if context else text, soft_wrap=True, markup=False)

    def show(self, *what: RenderableType) -> None:
        """Print a table or a styled text for people."""
        self.console.print(*what)

    def wrote_json(self, result: object, *, in_a_line: bool = False) -> bool:
        """Print a result as JSON if `--json` was given; returns whether it was."""
        if self.as_json:
            value = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
            click.echo(json.dumps(value, ensure_ascii=False, indent=None if in_a_line else 2, default=str))
        return self.as_json

    @contextmanager
    def counting(self) -> Iterator[Progress]:
        """A bar for each task that is counted; a line every few seconds where the output is no terminal."""
        if not self.moves:
            due = _pace()

            def line(task: str, done: float, total: int | None) -> None:
                if due(done == total):
                    self.say(f"  {task} {done:.{0 if done == int(done) else 1}f}" + (f"/{total}" if total else ""))

            yield line
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with self._bars(*columns) as bars:
            tasks: dict[str, TaskID] = {}

            def count(task: str, done: float, total: int | None) -> None:
                if task not in tasks:
                    tasks[task] = bars.add_task(task, total=total)
                bars.update(tasks[task], completed=done, total=total)

            yield count

    @contextmanager
    def waiting(self) -> Iterator[Progress]:
        """`counting` for work that is usually short: shows nothing until a second after the first report."""
        with ExitStack() as stack:
            begun: float | None = None
            shown: Progress | None = None

            def count(task: str, done: float, total: int | None) -> None:
                nonlocal begun, shown
                begun = begun or time.monotonic()
                if shown is None and time.monotonic() - begun >= PATIENCE:
                    shown = stack.enter_context(self.counting())
                if shown is not None:
                    shown(task, done, total)

            yield count

    @contextmanager
    def training(self) -> Iterator[Callable[[TrainingProgress], None]]:
        """A bar with loss, time left and pace; in a log a line every few seconds and at every validation."""
        if not self.moves:
            due = _pace()
            validated: float | None = None

            def line(progress: TrainingProgress) -> None:
                nonlocal validated
                news = progress.validation_loss != validated or progress.step == progress.steps
                validated = progress.validation_loss
                if due(news):
                    self.say(f"  {training_line(progress)}")

            yield line
            return
        # A narrow terminal cuts it at its end.
        state = TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True, overflow="ellipsis"))
        with self._bars(BarColumn(bar_width=10), state) as bars:
            # Not before the first step: in a whole run, other bars are shown meanwhile.
            tasks: list[TaskID] = []

            def show(progress: TrainingProgress) -> None:
                state = training_line(progress)
                if not tasks:
                    tasks.append(bars.add_task("training", total=progress.steps, state=state))
                bars.update(tasks[0], completed=progress.step, state=state)
                if progress.step == progress.steps:
                    bars.remove_task(tasks.pop())

            yield show

    @contextmanager
    def pipeline(
        self,
    ) -> Iterator[tuple[Callable[[str, bool], None], Progress, Callable[[TrainingProgress], None]]]:
        """A whole run: a heading for each step, and the step's own progress below it."""
        with self.counting() as count, self.training() as show:

            def step(title: str, skipped: bool) -> None:
                self.show(Text.assemble((title, "bold"), "  unchanged, skipped" if skipped else ""))

            def train(progress: TrainingProgress) -> None:
                show(progress)
                # On a terminal the bar is gone after the last step; in a log this line is there already.
                if self.moves and progress.step == progress.steps:
                    self.say(f"  {training_line(progress)}")

            yield step, count, train

    def _bars(self, *columns: ProgressColumn) -> Bars:
        return Bars(*columns, console=self.console, transient=True)


def training_line(progress: TrainingProgress) -> str:
    """The state of a training, the most important first; unknown values are left out."""
    left, memory, pace = progress.seconds_left, progress.memory_bytes, progress.tokens_per_second
    known = (
        f"step {progress.step:>{len(str(progress.steps))}}/{progress.steps}",
        "" if progress.loss is None else f"loss {progress.loss:.3f}",
        "" if left is None else f"{duration(left)} left",
        "" if progress.validation_loss is None else f"val. {progress.validation_loss:.3f}",
        "" if memory is None else size(memory),
        "" if pace is None else f"{pace:,.0f} tok/s",
        "" if progress.learning_rate is None else f"lr {progress.learning_rate:.1e}",
    )
    return "  ".join(fact for fact in known if fact)


def _pace() -> Callable[[bool], bool]:
    """A function that says whether to print a plain line: every few seconds, and for important news."""
    last = time.monotonic()

    def due(important: bool) -> bool:
        nonlocal last
        if not important and time.monotonic() - last < PLAIN_SECONDS:
            return False
        last = time.monotonic()
        return True

    return due


def answer_line(text: str) -> str:
    """A line for standard output, cut where a terminal would break it; no text of a model commands the terminal."""
    text = printable(text)
    columns = shutil.get_terminal_size().columns
    # A Hangul syllable is two columns wide.
    if not sys.stdout.isatty() or cell_len(text) <= columns:
        return text
    return set_cell_size(text, columns - 1).rstrip() + "…"
