"""The step that checks a dataset, a folder or one of the Hub, and leaves its report as `validation.json`.

What is checked is in `checks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.core.errors import ToolkitError
from toolkit.core.folder import unwritable, write_json
from toolkit.core.layout import VALIDATION
from toolkit.data.dataset import LocatedDataset
from toolkit.data.validation.findings import Report
from toolkit.data.validation.folder import Progress, check_folder


def validate_dataset(
    path: Path,
    *,
    strict: bool = False,
    tokenizer: Any = None,
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check every row of a dataset folder, and write nothing: `checks.check_folder`.

    Raises:
        InputError: No such folder, or no Parquet file in it.
    """
    return check_folder(path, strict=strict, tokenizer=tokenizer, max_length=max_length, progress=progress)


def write_report(report: Report, dataset: LocatedDataset, output: Path | None = None) -> ToolkitError | None:
    """Write the report to `output`, or as `validation.json` into the dataset's folder.

    One of the Hub has no folder of its own here: nothing is written without `output`.

    Returns:
        Why a folder could not be written, which is no fault of the dataset; None when all is well.

    Raises:
        InputError, EnvironmentLacks: `output` can not be written.
    """
    if output is None and dataset.revision is not None:
        return None
    try:
        write_json(output or dataset.path / VALIDATION, report.to_json())
    except OSError as error:
        problem = unwritable(output or dataset.path / VALIDATION, error)
        if output is not None:
            raise problem from error
        return problem
    return None
