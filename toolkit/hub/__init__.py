"""Bring a dataset or an adapter to a Hub, and check that what is there is what its card says.

`publish` prepares a folder and carries out the publication, `contents` and `safety` decide what of it may leave this
machine, `remote` reads the Hub, `upload` changes it in one commit, and `verify` runs `reproduce` in a clean process.
`space` is the page to try an adapter; `local` is a Hub in a folder, for demos and tests.
"""
