"""A Space, the page to try an adapter: `app` is the page, which runs alone; `folder` writes the files of the Space.

`serve` shows the same page on this machine.
"""
