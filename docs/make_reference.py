"""Write the pages of the reference that follow from the code: `python docs/make_reference.py`; a test compares them."""

import inspect
import json
import re
import sys
import textwrap
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import click
from pydantic import BaseModel, TypeAdapter

import toolkit
from toolkit import cli
from toolkit.core import recipe

COMMANDS = """\
# The commands

Written by `docs/make_reference.py` from `pkt VERB --help`. Exit codes: 0 done, 1 a check failed (also of
what `run`, `merge` and `export` made), 2 wrong usage or unusable input, 3 the machine or account lacks something, 4 the
Hub refused or is out of reach, 70 a bug in pkt, 130 interrupted.

`pkt` alone shows the road, where the current folder is on it and the next command; as no command was given, on standard
error and with exit code 2. `pkt completion` lets a shell complete the rest.
"""
SETTINGS = """\
# The settings of a recipe

Written by `docs/make_reference.py` from `toolkit/core/recipe.py`. A recipe is a TOML file; what it leaves out has the
default that stands here. `pkt run RECIPE OUT --set SECTION.SETTING=VALUE` changes any of them, and the option of a
setting changes it for one command. An unknown setting and a value out of range are errors. What the shipped recipes
set, and why: [recipes.md](recipes.md).
"""
PYTHON = """\
# The functions of toolkit

Written by `docs/make_reference.py` from the code. What a command does, the function of its name does, as in
`from toolkit import train`. What a user can mend is a `ToolkitError`; its kinds are in `toolkit/core/errors.py`.
The settings of a `Recipe` have [a page of their own](settings.md).
"""
TITLED = re.compile(r"^(Args|Attributes|Returns|Raises):\n((?:    .*\n|\n)+)", re.MULTILINE)
ITEM = re.compile(r"^([\w, ]+): ", re.MULTILINE)


def commands() -> str:
    """Each command with its help."""
    return COMMANDS + "".join(_command(path, command) for path, command in _leaves(cli.main, ()))


def _leaves(group: click.Group, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        found += _leaves(command, (*path, name)) if isinstance(command, click.Group) else [((*path, name), command)]
    return found


def _command(path: tuple[str, ...], command: click.Command) -> str:
    name = " ".join(("pkt", *path))
    context = click.Context(command, info_name=name, terminal_width=80, help_option_names=["-h", "--help"])
    return f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"


def settings() -> str:
    """Each section of a recipe with a table of its settings: values, default, option, meaning."""
    optional = {key for command in recipe.OPTIONS for key in recipe.settings_with_options(command)}
    sections = {"": f"\n## At the top\n\n{recipe.Recipe.__doc__}\n"}
    tables: dict[str, str] = {}
    for key, field in recipe.fields().items():
        model = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is(kind, BaseModel)]
        if model:
            title = f"[[{key}]]" if get_args(field.annotation) else f"[{key}]"
            sections[key] = f"\n## {title}\n\n{inspect.getdoc(model[0])}\n"
            continue
        default = field.get_default(call_default_factory=True)
        values = _values(TypeAdapter(Annotated[field.annotation, field]).json_schema())
        cells = (
            f"`{key.rpartition('.')[2]}`" + (f"<br>`{recipe.option_name(key)}`" if key in optional else ""),
            f"{field.description or ''} *{values[0].upper()}{values[1:]}.*".lstrip(),
            "required" if field.is_required() else "" if default is None else f"`{_toml(default)}`",
        )
        row = "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
        tables[key.rpartition(".")[0]] = tables.get(key.rpartition(".")[0], "") + row
    head = "\n| setting, option | what it is, *values* | default |\n|---|---|---|\n"
    return SETTINGS + "".join(intro + head + tables[section] for section, intro in sections.items())


def _is(kind: object, parent: type, module: str = "") -> bool:
    return isinstance(kind, type) and issubclass(kind, parent) and kind.__module__.startswith(module)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _values(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words; None is the same as leaving a setting out."""
    if "anyOf" in schema:
        return " or ".join(_values(part) for part in schema["anyOf"] if part.get("type") != "null")
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return ", ".join(f"`{_toml(choice)}`" for choice in choices)
    if schema["type"] == "array":
        return f"list of {_values(schema['items'])}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = " and ".join(f"{sign} {schema[name]:,.12g}" for name, sign in signs.items() if name in schema)
    kind = {"string": "text", "boolean": "`true`, `false`", "integer": "whole number", "number": "number"}[
        schema["type"]
    ]
    return f"{kind} {limits}".rstrip()


def python() -> str:
    """Each function that `toolkit` exports, and the types that they take and return, with their docstrings."""
    exported = {name: getattr(toolkit, name) for name in toolkit.__all__}
    functions = {name: thing for name, thing in exported.items() if inspect.isfunction(thing)}
    named = exported | {name: kind for function in functions.values() for name, kind in _named(function).items()}
    for results in [kind for kind in named.values() if is_dataclass(kind)]:
        named |= {name: kind for name, kind in _named(results).items() if _is(kind, object, results.__module__)}
    classes = {name: kind for name, kind in sorted(named.items()) if _is(kind, object, "toolkit")}
    short = {name: str(kind).replace("collections.abc.", "").replace("typing.", "") for name, kind in named.items()}
    aliases = [
        f"{name} = {kind}".replace("'", '"')
        for name, kind in sorted(short.items())
        if re.match(r"(Callable|Literal)\[", kind)
    ]
    entries = [f"\n## {name}\n\n{_entry(function)}" for name, function in functions.items()]
    types = "\n## What they take and return\n\n```python\n" + "\n".join(aliases) + "\n```\n"
    return PYTHON + "".join([*entries, types, *(f"\n### {name}\n\n{_entry(kind)}" for name, kind in classes.items())])


def _named(thing: Any) -> dict[str, object]:
    """What its annotations name, as far as its module has it when it runs."""
    words = re.findall(r"[A-Z]\w+", " ".join(map(str, thing.__annotations__.values())))
    return {word: getattr(sys.modules[thing.__module__], word, None) for word in words}


def _entry(thing: Any) -> str:
    """How it is called, and its docstring as Markdown."""
    doc = TITLED.sub(lambda part: f"**{part[1]}**\n\n{_items(part[2])}\n\n", inspect.getdoc(thing) + "\n").rstrip()
    # The settings of a recipe have a page of their own.
    call = "" if _is(thing, BaseModel) else f"```python\n{_call(thing)}\n```\n\n"
    return f"{call}{doc}\n"


def _call(thing: Any) -> str:
    """A parameter on each line, with types as the source has them."""
    signature = inspect.signature(thing)
    lines = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "    *," not in lines:
            lines.append("    *,")
        default = "" if parameter.default is parameter.empty else f" = {_source(parameter.default)}"
        annotation = getattr(parameter.annotation, "__forward_arg__", parameter.annotation)
        lines.append(f"    {parameter.name}: {annotation}{default},")
    back = f" -> {signature.return_annotation}" if inspect.isfunction(thing) else ""
    return "\n".join((f"{thing.__name__}(", *lines, f"){back}"))


def _source(default: object) -> str:
    if is_dataclass(default):
        return f"{type(default).__name__}()"
    # What makes a new list or table of a dataclass has no value yet.
    if callable(default) or "<" in repr(default):
        return getattr(default, "__name__", "...")
    return _toml(default) if isinstance(default, str) else repr(default)


def _items(block: str) -> str:
    text = re.sub(r"\n +", " ", textwrap.dedent(block).strip())
    return ITEM.sub(lambda item: f"* {', '.join(f'`{name}`' for name in item[1].split(', '))}: ", text)


PAGES = {"commands.md": commands, "settings.md": settings, "python.md": python}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (Path(__file__).parent / name).write_text(page(), encoding="utf-8")
