"""A Hugging Face Hub in a folder, served over HTTP to the unmodified clients.

For a run without account or network, and for tests. Clients need `HF_ENDPOINT` set to its address, and
`HF_HUB_DISABLE_XET=1`, without which they never ask the Hub where large files go.
"""
