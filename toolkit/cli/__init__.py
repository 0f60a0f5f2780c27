"""The command line: parse, call one step, show its result.

`group` holds `pkt` and the end of every error, `options` what commands share, `data`, `train`, `inspect`, `ask`,
`publish` and `run` the commands, `output` and `results` what a terminal or a machine reads, `process` what is set
before libraries are imported. Nothing but Click is imported until work starts.
"""

from toolkit.cli.group import BUG_EXIT_CODE, INTERRUPTED_EXIT_CODE, main

__all__ = ["BUG_EXIT_CODE", "INTERRUPTED_EXIT_CODE", "main"]
