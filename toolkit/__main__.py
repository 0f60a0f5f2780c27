"""`python -m toolkit` is `pkt`."""

from toolkit.cli import main

main(prog_name="pkt")
