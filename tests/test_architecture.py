"""The house: imports point down, nothing heavy is loaded before it is needed, and no cycle exists."""

import configparser
import subprocess
import sys
from graphlib import TopologicalSorter

import grimp
import pytest

from support import paths

ROOT = paths.ROOT / "toolkit"
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "datasets",
    "matplotlib",
    "bitsandbytes",
    "sklearn",
    "gradio",
    "ray",
    "sentence_transformers",
}


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh process has loaded after some code."""
    command = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    )


def test_no_module_loads_a_heavy_library_when_it_is_imported():
    modules = [
        ".".join(("toolkit", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for file in ROOT.rglob("*.py")
        if file.name != "__main__.py"
    ]
    loaded = loaded_by("\n".join(f"import {module}" for module in sorted(modules)))
    assert not loaded & HEAVY


def test_the_command_line_loads_click_alone():
    third_party = loaded_by("import toolkit.cli") - loaded_by("") - set(sys.stdlib_module_names)
    assert third_party == {"click", "toolkit"}


@pytest.mark.parametrize(
    "forbidden", ["except Exception", "except BaseException", "raise NotImplementedError", "TODO", "FIXME"]
)
def test_nothing_unfinished_or_swallowed_is_in_the_toolkit(forbidden):
    """One place translates what libraries raise: `library_errors`."""
    border = ROOT / "core" / "errors.py"
    found = [file for file in ROOT.rglob("*.py") if forbidden in file.read_text(encoding="utf-8")]
    assert found == ([border] if forbidden == "except Exception" else [])


def test_there_is_no_import_cycle_even_inside_functions():
    graph = grimp.build_graph("toolkit", exclude_type_checking_imports=True, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imported).prepare()


def test_the_package_map_holds_every_package_and_every_file_beside_the_code():
    settings = configparser.ConfigParser()
    settings.read(paths.ROOT / "setup.cfg")
    packages = {name.replace(".", "/") for name in settings["options"]["packages"].split()}
    mapped = {"toolkit/cards/dataset_templates", "toolkit/cards/model_templates"}
    assert packages - mapped == {file.parent.relative_to(paths.ROOT).as_posix() for file in ROOT.rglob("__init__.py")}
    named = {
        file
        for package, patterns in settings["options.package_data"].items()
        for pattern in patterns.replace(",", " ").split()
        for file in (paths.ROOT / package.replace(".", "/")).glob(pattern)
    }
    others = {file for file in ROOT.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert others - named == set()


WITHOUT_UNIX = """
import os, sys, psutil  # whose own part for Linux has them
sys.modules.update(dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios")))
for name in ("sysconf", "getuid", "sched_getaffinity"):
    delattr(os, name)
from toolkit.cli import main
sys.exit(main())
"""


def test_what_only_unix_has_is_asked_for_where_it_is_used_and_else_said_in_one_line(tmp_path):
    """The nearest to Windows that Linux offers: its modules of Unix cannot be imported."""

    def pkt(*arguments):
        command = [sys.executable, "-c", WITHOUT_UNIX, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        return done.returncode, done.stderr

    code, said = pkt("build-dataset", "data")
    assert code == 0, said
    assert (tmp_path / "data/manifest.json").is_file()
    assert pkt("hub", "serve", "hub") == (
        3,
        "Error: A local Hub and a sweep need a Unix system. On Windows, run it in WSL.\n",
    )
