"""Sources to a clean, masked, split and validated dataset folder.

`sources` yields records as they are; `cleaning` makes drafts of them, whose names `masking` and `grammar` mask and
whose misspelt names `near_names` finds; `duplicates` and `splits` say who goes where. `build` is the verb that does it
all and writes the folder with its `card`; `dataset` finds and reads a folder, `validation` checks it.
"""
