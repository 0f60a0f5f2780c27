"""Ready-made recipes: `pkt run NAME OUT` and `--recipe NAME`."""
