"""Options of the running command, and how errors that name Python arguments and settings are shown with them."""

from __future__ import annotations

import re

import click

# `training.max_length`, `overwrite_card`, `quantization="none"`
_NAMED = re.compile(r"`([a-z_]+(?:\.[a-z_]+)*)(?: ?= ?(?:\"([^\"`]*)\"|([\w.]+)))?`")


def with_options(text: str, context: click.Context) -> str:
    """The text with each `argument` or `section.key` in backticks as the option of the running command that sets it.

    A value stays beside it: `quantization="none"` becomes --quantization none. Names of no option stay as they are.
    """
    flags = _flags(context)

    def as_option(found: re.Match[str]) -> str:
        flag = flags.get(found[1])
        value = found[2] or found[3] or ""
        return found[0] if flag is None else flag if value in ("", "True") else f"{flag} {value}"

    return _NAMED.sub(as_option, text)


def _flags(context: click.Context) -> dict[str, str]:
    """Names of arguments and settings in Python, each with the option that sets it."""
    flags: dict[str, str] = {}
    for option in context.command.get_params(context):
        if isinstance(option, click.Option):
            written = [flag for flag in (*option.opts, *option.secondary_opts) if flag.startswith("--")]
            key = str(option.name).replace("__", ".")
            flags |= {flag[2:].replace("-", "_"): flag for flag in written} | {key: written[0]}
            flags.setdefault(key.rpartition(".")[2], written[0])
    return flags
