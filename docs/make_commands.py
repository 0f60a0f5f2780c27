"""Write docs/commands.md from the commands' own help: `python docs/make_commands.py`. A test checks it is current."""

from pathlib import Path

import click

from toolkit import cli

TARGET = Path(__file__).parent / "commands.md"
HEAD = """\
# The commands

Written by `docs/make_commands.py` from `pkt VERB --help`. Exit codes: 0 done, 1 the check failed (`validate`,
`verify`, `inspect`), 2 wrong usage or unusable input, 3 the machine or account lacks something, 4 the Hub refused or
is out of reach, 70 a bug in pkt, 130 interrupted.
"""


def reference() -> str:
    """The whole page."""
    return HEAD + "".join(_section(path, command) for path, command in _commands(cli.main, ()))


def _commands(group: click.Group, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        found += _commands(command, (*path, name)) if isinstance(command, click.Group) else [((*path, name), command)]
    return found


def _section(path: tuple[str, ...], command: click.Command) -> str:
    name = " ".join(("pkt", *path))
    context = click.Context(command, info_name=name, terminal_width=80, help_option_names=["-h", "--help"])
    return f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
