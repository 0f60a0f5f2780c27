"""Progress: a bar on a terminal, as much beside it as the width allows; plain lines every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from toolkit.cli.output.terminal import CONSOLE, Pace, say
from toolkit.core.format import duration, size
from toolkit.training.progress import TrainingProgress

Count = Callable[[str, float, int | None], None]
# What is done within so many seconds is not worth a bar.
PATIENCE = 1.0
# What stands beside the bar of a training, each in a width of its own so that nothing jumps: (name, width, rank). The
# highest ranks go first when the terminal is narrow.
COLUMNS = (
    ("step", 0, 0),
    ("loss", 10, 1),
    ("validation", 10, 3),
    ("learning_rate", 10, 6),
    ("pace", 11, 5),
    ("memory", 7, 4),
    ("left", 16, 2),
)
# A bar that still says something, what stands before and after it, and from which width on it may be longer.
BAR, FRAME = 10, 3
WIDE, WIDE_BAR = 110, 20


@contextmanager
def counting() -> Iterator[Count]:
    """A bar for each kind of thing that is counted; a line every few seconds when the output is no terminal."""
    if not CONSOLE.is_terminal:
        pace = Pace()

        def line(what: str, done: float, of: int | None) -> None:
            if pace.due(important=done == of):
                say(f"  {what} {done:.{0 if done == int(done) else 1}f}" + (f"/{of}" if of else ""))

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=CONSOLE, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def count(what: str, done: float, of: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield count


@contextmanager
def waiting() -> Iterator[Count]:
    """`counting` for what rarely takes long: nothing is shown of what ends within a second of its first report."""
    with ExitStack() as stack:
        begun: float | None = None
        shown: Count | None = None

        def count(what: str, done: float, of: int | None) -> None:
            nonlocal begun, shown
            now = time.monotonic()
            begun = now if begun is None else begun
            if shown is None and now - begun >= PATIENCE:
                shown = stack.enter_context(counting())
            if shown is not None:
                shown(what, done, of)

        yield count


@contextmanager
def training() -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar with losses, learning rate, pace, memory and time left; as plain lines also at every validation."""
    if not CONSOLE.is_terminal:
        pace = Pace()
        validated: list[float | None] = [None]

        def line(progress: TrainingProgress) -> None:
            news = progress.validation_loss != validated[0] or progress.step == progress.steps
            validated[0] = progress.validation_loss
            if pace.due(important=news):
                say(training_line(progress))

        yield line
        return
    bar = BarColumn(bar_width=WIDE_BAR if CONSOLE.width >= WIDE else BAR)
    columns = (TextColumn(" "), bar, TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=CONSOLE, transient=True) as bars:
        # Not before the first step: in a whole run, other bars are shown meanwhile.
        tasks: list[TaskID] = []

        def show(progress: TrainingProgress) -> None:
            state = beside_the_bar(progress, CONSOLE.width)
            if not tasks:
                tasks.append(bars.add_task("training", total=progress.steps, state=state))
            bars.update(tasks[0], completed=progress.step, state=state)
            if progress.step == progress.steps:
                bars.remove_task(tasks.pop())

        yield show


def training_line(progress: TrainingProgress) -> str:
    """Where a training stands, in a line for a log."""
    facts = _facts(progress) | {"step": f"step {progress.step}/{progress.steps}"}
    return "  " + "  ".join(facts[name] for name, *_ in COLUMNS if facts[name])


def beside_the_bar(progress: TrainingProgress, width: int) -> str:
    """The columns that fit into a terminal of `width` columns beside the bar, the less important ones left out."""
    facts = _facts(progress)
    widths = {name: reserved or len(facts["step"]) for name, reserved, _ in COLUMNS}
    room = width - FRAME - (WIDE_BAR if width >= WIDE else BAR)
    shown: set[str] = set()
    for name, *_ in sorted(COLUMNS, key=lambda column: column[2]):
        needed = sum(widths[each] + 2 for each in {*shown, name})
        if needed - 2 > room:
            break
        shown.add(name)
    return "  ".join(facts[name].ljust(widths[name]) for name, *_ in COLUMNS if name in shown).rstrip()


def _facts(progress: TrainingProgress) -> dict[str, str]:
    """What is known, as words; empty where it is not."""

    def known(value: Any, words: Callable[[Any], str]) -> str:
        return "" if value is None else words(value)

    return {
        "step": f"step {progress.step:>{len(str(progress.steps))}}/{progress.steps}",
        "loss": known(progress.loss, lambda loss: f"loss {_loss(loss)}"),
        "validation": known(progress.validation_loss, lambda loss: f"val. {_loss(loss)}"),
        "learning_rate": known(progress.learning_rate, lambda rate: f"lr {rate:.1e}"),
        "pace": known(progress.tokens_per_second, lambda pace: f"{pace:,.0f} tok/s"),
        "memory": known(progress.memory_bytes, size),
        "left": known(progress.seconds_left, lambda seconds: f"{duration(seconds)} left"),
    }


def _loss(loss: float) -> str:
    """A loss in five characters, whatever its size."""
    return f"{loss:.3f}"[:5].rstrip(".")


@contextmanager
def road() -> Iterator[tuple[Callable[[str, bool], None], Count, Callable[[TrainingProgress], None]]]:
    """What shows a whole run: a heading for each step, and the step's own progress below it."""
    with counting() as count, training() as show:

        def step(title: str, skipped: bool) -> None:
            CONSOLE.print(Text.assemble((title, "bold"), "  unchanged, skipped" if skipped else ""))

        def progress(where: TrainingProgress) -> None:
            show(where)
            # On a terminal the bar is gone after the last step; in a log this line is there already.
            if CONSOLE.is_terminal and where.step == where.steps:
                say(training_line(where))

        yield step, count, progress
