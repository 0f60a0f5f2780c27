"""What others get: wheel and sdist, the image's recipe, and under which licences what comes with them."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from support.paths import ROOT
from toolkit import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Where each package lies, and where it is installed (setup.cfg).
SOURCES = {
    "toolkit": "toolkit",
    "dataset_cards": "toolkit/cards/dataset_templates",
    "model_cards": "toolkit/cards/model_templates",
}
PACK = "import sys, setuptools.build_meta as build; getattr(build, sys.argv[1])(sys.argv[2])"
USER_PROGRAM = """
from pathlib import Path
from toolkit import build_dataset, load_recipe, name

build_dataset(Path("data"), load_recipe("demo"))
given: int = name("adapter", "A small fox")  # type: ignore[assignment]
"""
# MPL-2.0 binds those who change its files, not those who use them.
FREE = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0"),
    *("CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-CMU", "MPL-2.0", "PSF", "PSF-2.0", "Public-Domain", "Zlib"),
}
# How packages spell those in their older fields.
SPELT = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF",
}


def environment_of(python):
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PATH": str(python.parent)}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The sdist of a copy of this tree, and the wheel made of what is in the sdist."""
    folder = tmp_path_factory.mktemp("packed")
    # Hidden folders hold environments and caches, `run` and `demo` what was made.
    left_out = {path.name for path in ROOT.iterdir() if re.match(r"\.|demo|(build|dist|run)$|.*egg-info", path.name)}
    shutil.copytree(ROOT, folder / "tree", ignore=lambda at, _: left_out if Path(at) == ROOT else {"__pycache__"})

    def pack(kind, tree):
        command = [sys.executable, "-c", PACK, kind, folder]
        subprocess.run(command, cwd=tree, check=True, capture_output=True)

    pack("build_sdist", folder / "tree")
    (sdist,) = folder.glob("*.tar.gz")
    subprocess.run([sys.executable, "-m", "tarfile", "-e", sdist, folder / "unpacked"], check=True)
    pack("build_wheel", folder / "unpacked" / sdist.name.removesuffix(".tar.gz"))
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def elsewhere(packed, tmp_path_factory):
    """An environment with the wheel, which sees the libraries of this one and no source tree; gives its Python."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(packed)]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return python


def test_the_wheel_made_of_the_sdist_holds_the_packages_with_every_file_and_nothing_else(packed):
    held = {name for name in zipfile.ZipFile(packed).namelist() if ".dist-info/" not in name}
    wanted = {
        f"{installed}/{file.relative_to(ROOT / source).as_posix()}"
        for source, installed in SOURCES.items()
        for file in (ROOT / source).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert held == wanted
    assert {"toolkit/py.typed", "toolkit/core/recipes/demo.toml", "toolkit/cards/card.css"} <= held
    assert any(name.endswith("licenses/LICENSE") for name in zipfile.ZipFile(packed).namelist())


def test_the_installed_wheel_builds_a_dataset_with_its_card_from_another_folder(elsewhere, tmp_path):
    def run(*command):
        return subprocess.run(
            command, cwd=tmp_path, env=environment_of(elsewhere), capture_output=True, text=True, check=True
        ).stdout

    where = run(elsewhere, "-c", "import toolkit; print(toolkit.__file__)")
    assert Path(where.strip()).is_relative_to(elsewhere.parents[1])
    assert run(elsewhere.parent / "pkt", "--version").split()[-1] == __version__
    run(elsewhere.parent / "pkt", "build-dataset", "data")
    assert "## " in (tmp_path / "data/README.md").read_text(encoding="utf-8")


def test_a_program_of_a_user_is_checked_strictly_against_the_types_that_are_installed(elsewhere, tmp_path):
    (tmp_path / "program.py").write_text(USER_PROGRAM)
    # The libraries' own types are not what is tried, and take minutes to read.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\nfollow_imports = skip\nignore_missing_imports = true\n"
        "[mypy-toolkit.*]\nfollow_imports = normal\n"
    )
    command = [sys.executable, "-m", "mypy", "--python-executable", elsewhere, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    # Without its types, the wrong line would be right, and its comment an error.
    assert done.stdout == "Success: no issues found in 1 source file\n"


def licences(name):
    """The licences of an installed package, in the terms of `FREE` where they are known."""
    about = importlib.metadata.metadata(name)
    found = {line.split(" :: ")[-1] for line in about.get_all("Classifier", []) if line.startswith("License ::")}
    # Some put the whole text into `License`, beside a classifier.
    if stated := about.get("License-Expression") or (not found and about.get("License")):
        found = {part.strip("()") for part in re.split(" (?:and|or) ", stated, flags=re.IGNORECASE)}
    return {SPELT.get(licence, licence) for licence in found}


def installed_with(name, extras, found):
    """The names of the installed packages that a package with these extras needs, and what these need."""
    for line in importlib.metadata.requires(name) or []:
        need = Requirement(line)
        if need.name in found or (need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in extras)):
            continue
        try:
            importlib.metadata.distribution(need.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(need.name)
        installed_with(need.name, {"", *need.extras}, found)
    return found


def test_every_library_that_a_user_gets_may_be_used_and_passed_on():
    found = installed_with(PROJECT["name"], {"", *PROJECT["optional-dependencies"]} - {"dev"}, set())
    assert len(found) > 60
    # Torch's wheels for CUDA bring these, under NVIDIA's own terms (docs/install.md).
    free = {name: licences(name) for name in found if not name.startswith(("nvidia-cu", "nvidia-n", "cuda-"))}
    assert {name: stated for name, stated in free.items() if not stated or stated - FREE} == {}


def test_a_package_of_another_licence_or_of_none_is_found(monkeypatch):
    about = Message()
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: about)
    assert licences("strange") == set()
    about["License"] = "MIT AND (GPL-3.0-only OR ISC)"
    assert licences("strange") - FREE == {"GPL-3.0-only"}


def test_the_exact_versions_are_for_the_oldest_python_too():
    # Where one is not, pip of Debian 12 tries others of everything else for hours.
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    installed = {about["Name"]: about["Requires-Python"] or "" for about in map(importlib.metadata.metadata, pinned)}
    assert {name: asked for name, asked in installed.items() if not SpecifierSet(asked).contains("3.11.0")} == {}


def test_the_image_copies_what_is_there_and_what_is_not_ignored():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    copied = [path for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.M) for path in line.split()]
    assert {path for path in copied if not (ROOT / path).exists()} == set()
    admitted = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    assert sorted(copied) == sorted(admitted)
    # All that the wheel is made of.
    assert {*SOURCES, PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "setup.cfg"} <= {*copied}
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", dockerfile, re.M)
    assert {*extras.split(",")} <= {*PROJECT["optional-dependencies"]}


def test_the_workflow_tries_every_python_that_the_project_and_the_image_name():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    tried = workflow["jobs"]["linux"]["strategy"]["matrix"]["python"]
    assert tried == [f"3.{minor}" for minor in range(11, 15)]
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in tried)
    assert not SpecifierSet(PROJECT["requires-python"]).contains("3.10")
    (image,) = re.findall(r"^ARG PYTHON=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert image in tried
    assert workflow["permissions"] == {"contents": "read"}
