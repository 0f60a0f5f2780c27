#!/usr/bin/env bash
# xllamacpp 2026.10.11549 (llama.cpp's server), gguf 0.19.0, Python 3.11: `/completion` with `n_probs` gives the log-probabilities
# of the next token, but none where that token is part of a character. Byte-level tokenizers write rare Hangul syllables,
# Han and emoji as such parts. Seen: for a token that is a whole letter `completion_probabilities` has one entry; for one that
# is the first byte of a syllable the key is missing from an answer of status 200, though the token was generated and counted.
# Who ranks Korean answers by likelihood gets them by asking for enough `top_logprobs` while another token is forced.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 gguf==0.19.0 2>&1 | grep -v WARNING || true
cat > "$work/ask.py" <<'PY'
import json
import sys
import urllib.request

import numpy as np
import xllamacpp
from gguf import GGUFWriter, TokenType

# GPT-2's letters for bytes.
PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTED]
LETTERS = {byte: chr(byte) for byte in PRINTED} | {byte: chr(256 + at) for at, byte in enumerate(OTHERS)}
TOKENS = ["<bos>", "<eos>", *(LETTERS[byte] for byte in range(256))]
SIZE, WIDE = 32, 64
file = f"{sys.argv[1]}/random.gguf"
writer, random = GGUFWriter(file, "llama"), np.random.default_rng(0)
writer.add_context_length(64)
writer.add_embedding_length(SIZE)
writer.add_block_count(1)
writer.add_feed_forward_length(WIDE)
writer.add_head_count(1)
writer.add_layer_norm_rms_eps(1e-6)
writer.add_rope_dimension_count(SIZE)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("gpt-2")
writer.add_token_list(TOKENS)
writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * 256)
writer.add_token_merges(["a b"])
writer.add_bos_token_id(0)
writer.add_eos_token_id(1)
shapes = {"attn_q": (SIZE, SIZE), "attn_k": (SIZE, SIZE), "attn_v": (SIZE, SIZE), "attn_output": (SIZE, SIZE)}
shapes |= {"ffn_gate": (WIDE, SIZE), "ffn_up": (WIDE, SIZE), "ffn_down": (SIZE, WIDE)}
shapes |= {"attn_norm": (SIZE,), "ffn_norm": (SIZE,)}
named = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
named |= {"token_embd.weight": (len(TOKENS), SIZE), "output.weight": (len(TOKENS), SIZE), "output_norm.weight": (SIZE,)}
for name, shape in named.items():
    writer.add_tensor(name, random.normal(size=shape).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.verbosity = file, 64, 1, -1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.warmup = params.fit_params = False
server = xllamacpp.Server(params)
for what, byte in (("letter a", "a".encode()[0]), ("first byte of 꺅", "꺅".encode()[0])):
    token = TOKENS.index(LETTERS[byte])
    body = {"prompt": [0, 2, 3], "n_predict": 1, "n_probs": 1, "temperature": 0, "logit_bias": [[token, 1e6]]}
    request = urllib.request.Request(
        server.listening_address + "/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    answer = json.load(urllib.request.urlopen(request))
    given = len(answer.get("completion_probabilities", []))
    print(f"{what}: {answer['tokens_predicted']} token, {given} with probabilities")
PY
seen=$("$work/venv/bin/python" "$work/ask.py" "$work" 2>/dev/null)
echo "$seen"
[ "$seen" = "letter a: 1 token, 1 with probabilities
first byte of 꺅: 1 token, 0 with probabilities" ]
