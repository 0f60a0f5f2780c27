"""The report as a file: where it is written, that it is the same for the same rows, and what a person sees of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from support.paths import ROOT
from toolkit import cli
from toolkit.core.folder import read_json
from toolkit.core.layout import VALIDATION
from toolkit.data.validation import validate, write_report
from toolkit.data.validation.findings import CODES, Report


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    turns = [{"role": "user", "content": "A mouse that some call sparky."}, {"role": "assistant", "content": "Sparky"}]
    pq.write_table(pa.table({"messages": [turns] * 7}), folder / "train.parquet")
    return folder


def pkt(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_report_is_left_in_the_folder_and_is_what_json_prints(dataset: Path) -> None:
    code, out, _ = pkt("validate", dataset, "--json")
    assert code == 1
    assert read_json(dataset / VALIDATION) == json.loads(out)


def test_the_report_holds_everything_that_programs_need(dataset: Path) -> None:
    report = validate(dataset, strict=True).to_json()
    assert list(report) == ["toolkit", "ok", "strict", "rows", "findings", "skipped"]
    assert (report["ok"], report["strict"], report["rows"]) == (False, True, {"train": 7})
    assert list(report["findings"][0]) == ["code", "severity", "what", "count", "places"]
    assert report["findings"][0]["places"][0] == {
        "split": "train", "row": 0, "id": None, "excerpt": "A mouse that some call sparky.",
    }  # fmt: skip
    assert {"code": "schema.id", "reason": "no column `id`"} in report["skipped"]


def test_the_same_rows_give_the_same_bytes_in_any_folder(dataset: Path, tmp_path: Path) -> None:
    other = shutil.copytree(dataset, tmp_path / "elsewhere" / "other")
    pkt("validate", dataset)
    pkt("validate", other)
    pkt("validate", other)
    assert (dataset / VALIDATION).read_bytes() == (other / VALIDATION).read_bytes()


def test_the_report_on_a_damaged_file_names_no_path_of_this_machine(dataset: Path) -> None:
    (dataset / "test.parquet").write_bytes(b"PAR1")
    (dataset / "unseen.parquet").symlink_to(dataset / "nowhere")
    report = json.dumps(validate(dataset).to_json())
    assert "test.parquet" in report
    assert str(dataset)[:12] not in report


def test_output_names_another_place(dataset: Path, tmp_path: Path) -> None:
    pkt("validate", dataset, "--output", tmp_path / "report.json")
    assert read_json(tmp_path / "report.json")["rows"] == {"train": 7}
    assert not (dataset / VALIDATION).exists()


def test_an_output_that_cannot_be_written_is_an_error(dataset: Path, tmp_path: Path) -> None:
    code, _, err = pkt("validate", dataset, "--output", tmp_path / "nowhere" / "report.json")
    assert code == 2
    assert "nowhere/report.json cannot be written" in err


def test_a_folder_that_cannot_be_written_is_checked_all_the_same_and_one_line_says_so(dataset: Path) -> None:
    (dataset / VALIDATION).mkdir()
    code, _, err = pkt("validate", dataset)
    assert code == 1
    assert len([line for line in err.splitlines() if "cannot be written" in line]) == 1
    assert "leak.own-name" in err


def test_of_a_dataset_of_the_hub_nothing_is_written_unless_a_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_report(Report({"train": 7}, [], []), "owner/name") is None
    assert not list(tmp_path.rglob(VALIDATION))
    write_report(Report({"train": 7}, [], []), "owner/name", tmp_path / "report.json")
    assert (tmp_path / "report.json").is_file()


def test_a_person_sees_code_severity_count_what_it_is_and_the_first_places(dataset: Path) -> None:
    _, _, err = pkt("validate", dataset)
    lines = [" ".join(line.split()) for line in err.splitlines()]
    header = lines.index("code severity count what it finds")
    assert lines[header + 1] == "leak.own-name error 7 the answer's name in the prompt"
    assert lines[header + 2] == "train row 0: A mouse that some call sparky."
    assert "and 2 more" in lines
    assert any(line.startswith("not checked: tokens.length, tokens.contract (no tokenizer given)") for line in lines)
    assert lines[-1] == f"{dataset} does not pass: 7 rows in train."


def test_every_code_stands_in_the_documentation_with_its_severity_and_what_it_finds() -> None:
    page = (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")
    table = page.partition("| code | severity | finds |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.split("\n") == [f"| `{code}` | {severity} | {what} |" for code, (severity, what) in CODES.items()]
