"""A test and demo Hub in a folder, served over HTTP to the unmodified clients; not for the internet.

`objects` and `store` keep repositories on the disk. `request` says who asks and what they may do. `files` and `api`
answer the clients, `pages` a browser; `serve` routes requests to them and runs it. Clients need
`HF_ENDPOINT`, and `HF_HUB_DISABLE_XET=1`: with Xet they never ask the Hub where large files go.
"""
