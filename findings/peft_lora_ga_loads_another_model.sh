#!/usr/bin/env bash
# peft 0.21.2, torch 2.13.0, transformers 5.23.0: an adapter begun by LoRA-GA answers otherwise once it is saved and loaded.
# Its start takes something out of the base's weights; loading does not take it out again, and nothing says so. PiSSA and
# OLoRA, which also begin that way, do it again from the base, and load as they were trained. Seen: LoRA-GA 0.8, OLoRA 0.
# Who keeps such an adapter has to save it as plain LoRA (`path_initial_model_for_weight_conversion`).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 peft==0.21.2 transformers==5.23.0 2>&1 | grep -v WARNING || true
cat > "$work/load.py" <<'PY'
import sys
import warnings

import torch
from peft import LoraConfig, LoraGAConfig, PeftModel, get_peft_model
from peft.tuners.lora.loraga import preprocess_loraga
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
ids = torch.arange(1, 20)[None]

def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=97, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2))

start, folder = sys.argv[1:]
settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=start, task_type="CAUSAL_LM")
model = base()
if start == "lora_ga":
    settings.lora_ga_config = LoraGAConfig()
    preprocess_loraga(model, settings, lambda: model(input_ids=ids, labels=ids).loss.backward())
trained = get_peft_model(model, settings).eval()
trained.save_pretrained(folder)
loaded = PeftModel.from_pretrained(base(), folder).eval()
with torch.no_grad():
    print(float((trained(input_ids=ids).logits - loaded(input_ids=ids).logits).abs().max()))
PY
ga=$("$work/venv/bin/python" "$work/load.py" lora_ga "$work/ga" 2>/dev/null | tail -1)
olora=$("$work/venv/bin/python" "$work/load.py" olora "$work/olora" 2>/dev/null | tail -1)
echo "peft 0.21.2: largest difference of logits between trained and loaded: LoRA-GA $ga, OLoRA $olora"
[ "$(python3 -c "print(float('$ga') > 0.01 and float('$olora') == 0)")" = True ]
