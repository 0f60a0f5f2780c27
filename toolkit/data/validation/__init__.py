"""The checks of a dataset: `check_folder` runs them all and gives a `Report` of findings by stable code."""

from toolkit.data.validation.findings import Report
from toolkit.data.validation.folder import check_folder

__all__ = ["Report", "check_folder"]
