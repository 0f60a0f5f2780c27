"""A base and its adapter, from a Hub id to names.

`base` finds, checks and downloads a base; `memory` says what it needs and what the machine has; `loading` loads it and
puts a fresh adapter on it; `adapter` saves and loads that. `chat` and `chat_template` turn conversations into tokens.
`generate` samples names, `rank` (on `trie`) orders candidates, and `naming` does both for a description. `merge` makes
one plain model, `inspect` says what an adapter is (`vllm` whether that serves it), `doctor` looks at the machine, and
`tiny` is the base of the demo.
"""
