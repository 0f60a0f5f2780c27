"""The local Hub's memory, disk and time for a large repository with a long history, beside a bare git repository.

Both get the same: a commit of all files, then commits that change one line of one file each. The files lie in one
folder (`flat`) or in 200 (`spread`). The Hub runs in a process of its own and is asked by huggingface_hub, as by its
users. Git takes the first commit by `fast-import` and the others by its plumbing, without a working tree. Disk is what
files take in blocks: of the Hub without contents, which it keeps as they are; of git with them.
`python benchmarks/local_hub.py [--files 20000] [--commits 1000] [--shape flat]`
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

SERVED = """
import pathlib, sys
from toolkit.hub.local.serve import serve_forever

def ready(url, token):
    print(url, token.read_text().strip(), flush=True)

serve_forever(pathlib.Path(sys.argv[1]), "127.0.0.1", 0, ready)
"""
FOLDERS = {"flat": 1, "spread": 200}
REPO = "demo/large"


@click.command()
@click.option("--files", default=20_000, show_default=True)
@click.option("--commits", default=1_000, show_default=True)
@click.option("--shape", "shapes", multiple=True, type=click.Choice(list(FOLDERS)), help="Both by default.")
def main(files: int, commits: int, shapes: tuple[str, ...]) -> None:
    """Fill both with the same files and print what they took."""
    for shape in shapes or FOLDERS:
        first = {
            f"{f'folder-{number % FOLDERS[shape]:03}/' * (shape == 'spread')}{number:05}.txt": text(number)
            for number in range(files)
        }
        later = [(list(first)[number * 7 % files], f"{text(number)}changed {number}\n") for number in range(commits)]
        with tempfile.TemporaryDirectory() as folder:
            click.echo(f"{shape}: {files:,} files, {commits:,} commits of one line")
            local_hub(Path(folder) / "hub", first, later)
            bare_git(Path(folder) / "git", first, later)


def text(number):
    return "".join(f"line {line} of file {number}\n" for line in range(20))


def local_hub(root, first, later):
    """Commit by the client and print time, memory and disk."""
    command = [sys.executable, "-c", SERVED, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url, token = server.stdout.readline().split()
            os.environ["HF_HUB_DISABLE_XET"] = "1"  # read at the import
            from huggingface_hub import CommitOperationAdd, HfApi

            api = HfApi(endpoint=url, token=token)
            api.create_repo(REPO)

            def commit(files):
                operations = [CommitOperationAdd(path, content.encode()) for path, content in files]
                api.create_commit(REPO, operations, commit_message="change")

            click.echo(f"  the Hub: the first commit {timed(lambda: commit(first.items())):.1f} s")
            click.echo(
                f"  the Hub: later commits {spread([timed(lambda each=each: commit([each])) for each in later])}"
            )
            click.echo(f"  the Hub: list_repo_commits {timed(lambda: api.list_repo_commits(REPO)):.2f} s")
            click.echo(
                f"  the Hub: list_repo_tree {timed(lambda: list(api.list_repo_tree(REPO, recursive=True))):.2f} s"
            )
            repository = root / "models" / REPO
            beside = disk(root) - disk(repository / "blobs")
            click.echo(f"  the Hub: peak memory {peak(server.pid):,.0f} MB")
            click.echo(f"  the Hub: disk {beside:,.1f} MB beside contents of {disk(repository / 'blobs'):,.1f} MB")
        finally:
            server.terminate()


def bare_git(folder, first, later):
    """Commit by git's own plumbing and print time and disk."""

    def git(*arguments, stdin=""):
        done = subprocess.run(
            ["git", f"--git-dir={folder}", *arguments], input=stdin, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(path, content):
        blob = git("hash-object", "-w", "--stdin", stdin=content)
        git("update-index", "--cacheinfo", f"100644,{blob},{path}")
        made = git("commit-tree", git("write-tree"), "-p", git("rev-parse", "main"), "-m", "change")
        git("update-ref", "refs/heads/main", made)

    git("init", "-q", "--bare")
    for name, value in (("user.name", "demo"), ("user.email", "demo@example.com")):
        git("config", name, value)
    files = "".join(f"M 100644 inline {path}\ndata {len(content)}\n{content}\n" for path, content in first.items())
    header = "commit refs/heads/main\ncommitter demo <demo@example.com> 0 +0000\ndata 5\nfirst\n"
    click.echo(f"  git: the first commit {timed(lambda: git('fast-import', '--quiet', stdin=header + files)):.1f} s")
    git("read-tree", "main")
    click.echo(f"  git: later commits {spread([timed(lambda each=each: commit(*each)) for each in later])}")
    click.echo(f"  git: log {timed(lambda: git('log', '--format=%H %an %s', 'main')):.2f} s")
    click.echo(f"  git: disk {disk(folder):,.1f} MB, contents among it")
    click.echo(f"  git: gc {timed(lambda: git('gc', '-q')):.1f} s, then disk {disk(folder):,.1f} MB")


def timed(call):
    """Seconds."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def disk(folder):
    """Megabytes in blocks of everything below a folder."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 1e6


def peak(pid):
    """Megabytes of the largest resident set of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def spread(seconds):
    """The median with its range, in milliseconds."""
    values = [1000 * each for each in seconds]
    return f"median {statistics.median(values):.0f} ms ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    main()
