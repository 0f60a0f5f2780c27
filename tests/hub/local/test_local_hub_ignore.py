"""The `.gitignore` of a repository, or of an upload, decides what the client leaves out."""

import itertools
import shutil
import subprocess

import pytest
from huggingface_hub import HfApi

from toolkit.hub.local.files import ignored_by
from toolkit.hub.local.serve import running_hub

PATHS = """
a b.log keep.log logs/a logs/b.log x/logs/a x/y/z x/y/keep.log x/b #a !a build/a/b src/build [ ] d 5 한글/파일.txt
.gitignore a.b aXb x/a.b foo/x/bar foo/bar fooxbar
"""
RULES = r"""
*.log *.log|!keep.log logs logs/ /logs logs/*|!logs/b.log x/*|!x/y x/** **/logs x/**/z # \#a \!a !a|a a|!a * *|!*/
*|!*/|!*.log ** /** ***/b [a-c] [!a-c] [^a] []] [\d] [ a\ a?b a.b x/a.b foo/**/bar foo**bar ? 한글 *.txt / // x/y/
x//y **/ [[a] [a/] x[/]b /x/*/z build build/ !build/|build build|!build/a/b ||a|| foo/* foo/*/ **/b x/ !x/y/|x/
"""
SPACED = ["a ", "a\\ ", "a\\  ", "a\\ b", "a\t", "*.log\r\nlogs/\r\n", "\ufeff*.log", "# a\n\n"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_leaves_out_the_same_files(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    paths = [*PATHS.split(), "a ", "a b", "a\\"]
    pairs = itertools.product(("*.log", "x/", "!x/y/"), ("!b.log", "x/*", "!x/**", "/a"))
    for rules in [*(each.replace("|", "\n") for each in RULES.split()), *SPACED, *map("\n".join, pairs)]:
        (tmp_path / ".gitignore").write_bytes(rules.encode())
        command = ["git", "-C", tmp_path, "check-ignore", "--no-index", "-z", "--stdin"]
        done = subprocess.run(command, input="\0".join(paths).encode(), capture_output=True, check=False)
        assert set(filter(ignored_by(rules), paths)) == set(done.stdout.decode().split("\0")) - {""}, rules


def test_what_is_ignored_is_not_uploaded(tmp_path):
    for path in ("names.txt", "out/model.bin", "out/log.txt", "keep/model.bin"):
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(path.encode())
    with running_hub(tmp_path / "hub") as url:
        api = HfApi(endpoint=url, token="x")
        api.create_repo("demo/a")
        api.upload_file(path_or_fileobj=b"out/\n", path_in_repo=".gitignore", repo_id="demo/a")
        api.upload_folder(repo_id="demo/a", folder_path=tmp_path / "up")
        assert set(api.list_repo_files("demo/a")) == {".gitattributes", ".gitignore", "names.txt", "keep/model.bin"}
        (tmp_path / "up" / ".gitignore").write_text("*.bin\n")
        api.create_repo("demo/b")
        api.upload_folder(repo_id="demo/b", folder_path=tmp_path / "up")
        assert set(api.list_repo_files("demo/b")) == {".gitattributes", ".gitignore", "names.txt", "out/log.txt"}
