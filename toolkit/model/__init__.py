"""A base and its adapter: find, load, template, rank, generate, merge."""
