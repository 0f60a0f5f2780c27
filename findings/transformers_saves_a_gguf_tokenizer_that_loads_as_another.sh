#!/usr/bin/env bash
# transformers 5.23.0, gguf 0.19.0, Python 3.11: a byte-level tokenizer (`tokenizer.ggml.model` "gpt2") that was read from
# the GGUF file of a Gemma encodes otherwise once it is saved and loaded, and nothing says so. It is saved as a
# GemmaTokenizer, a class that makes itself anew from the vocabulary as if that were Gemma's own, though the whole tokenizer
# stands in `tokenizer.json` beside it. Seen: "the red fox" comes back as "theredfox" for Gemma 2 and 3; with the same
# vocabulary in the file of a Llama it comes back as it was.
# Who saves such a tokenizer has to set `tokenizer_class` to PreTrainedTokenizerFast in `tokenizer_config.json`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
# transformers reads no such file without torch.
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 gguf==0.19.0 2>&1 | grep -v WARNING || true
cat > "$work/tokens.py" <<'PY'
import json
import sys
from pathlib import Path

from gguf import GGUFWriter, TokenType
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

MERGES = ["t h", "th e", "e d", "Ġ r"]
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES)]


def write(file, architecture):
    writer = GGUFWriter(file, architecture)
    writer.add_name("Small")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def there_and_back(tokenizer):
    return tokenizer.decode(tokenizer("the red fox")["input_ids"], skip_special_tokens=True)


for architecture in ("llama", "gemma2", "gemma3"):
    folder = Path(sys.argv[1], architecture)
    write(f"{folder}.gguf", architecture)
    read = AutoTokenizer.from_pretrained(sys.argv[1], gguf_file=f"{architecture}.gguf")
    read.save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    plain = AutoTokenizer.from_pretrained(folder)
    print(f"{architecture}: read {there_and_back(read)}; loaded {there_and_back(loaded)}; plain {there_and_back(plain)}")
PY
seen=$("$work/venv/bin/python" "$work/tokens.py" "$work")
echo "transformers 5.23.0, gguf 0.19.0, a text there and back:"
echo "$seen"
[ "$seen" = "llama: read the red fox; loaded the red fox; plain the red fox
gemma2: read the red fox; loaded theredfox; plain the red fox
gemma3: read the red fox; loaded theredfox; plain the red fox" ]
