"""The checks of a dataset: `validate` takes a folder or a Hub id and returns a `Report` of findings by stable code.

`files` finds the Parquet files, `rows` reads and checks rows one by one, `comparisons` compares them with each other,
`folder` runs all of it, `findings` is the report.
"""

from toolkit.data.validation.findings import Report
from toolkit.data.validation.folder import validate, write_report

__all__ = ["Report", "validate", "write_report"]
