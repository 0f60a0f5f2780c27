"""Sources in; a clean, masked, split and validated dataset folder out.

`sources` yields records as they are. `cleaning` turns them into drafts: `answers` says which names a cell holds,
`masking` and `grammar` replace names, and `near_names` finds misspelt ones. `duplicates` and `splits` assign each row
to a split. `build` runs all of it and writes the folder with its `card`. `dataset` finds and reads a folder,
`validation` checks it, `inspect` shows its rows as tokens.
"""
