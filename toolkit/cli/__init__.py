"""The command line: parse, call one step, show its result. Nothing but Click is imported until work starts."""

from toolkit.cli import answers, app, datasets, evaluation, machine, merging, publishing, training
from toolkit.cli.group import BUG_EXIT_CODE, INTERRUPTED_EXIT_CODE, main

__all__ = [
    "BUG_EXIT_CODE",
    "INTERRUPTED_EXIT_CODE",
    "answers",
    "app",
    "datasets",
    "evaluation",
    "machine",
    "main",
    "merging",
    "publishing",
    "training",
]
