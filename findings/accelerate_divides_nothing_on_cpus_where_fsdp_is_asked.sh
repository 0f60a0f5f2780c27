#!/usr/bin/env bash
# accelerate 1.15.0 with torch 2.13.0, two gloo processes on a CPU: `Accelerator(cpu=True, fsdp_plugin=FullyShardedDataParallelPlugin(2))`
# takes the plugin, says nothing, and works as MULTI_CPU: `prepare` wraps the model in DistributedDataParallel, and every process holds
# all weights. torch's own `fully_shard` does divide the same model with gloo. Seen: accelerate holds 4,160 of 4,160 numbers in each
# process, `fully_shard` 2,080.
# Who tries out on CPUs what is to run with FSDP on GPUs sees another program run, without a word.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check accelerate==1.15.0 torch==2.13.0 numpy 2>&1 | grep -v WARNING || true
cat > "$work/divide.py" <<'PY'
import os
import warnings

warnings.simplefilter("ignore")
import torch
import torch.distributed as dist
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


def held(model):
    return sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in model.parameters())


accelerator = Accelerator(cpu=True, fsdp_plugin=FullyShardedDataParallelPlugin(fsdp_version=2))
model, _ = accelerator.prepare(torch.nn.Linear(64, 64), None)
divided = torch.nn.Linear(64, 64)
fully_shard(divided, mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),)))
if os.environ["RANK"] == "0":
    print(accelerator.distributed_type.name, type(model).__name__, held(model), held(divided))
dist.destroy_process_group()
PY
seen=$(CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1 "$work/venv/bin/torchrun" --standalone --nproc-per-node 2 "$work/divide.py" 2>/dev/null | tail -1)
echo "accelerate 1.15.0 with an FSDP plugin, and fully_shard: $seen"
[ "$seen" = "MULTI_CPU DistributedDataParallel 4160 2080" ]
