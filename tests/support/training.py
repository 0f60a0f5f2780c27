"""What tests share: training."""

from pathlib import Path

import pyarrow
import pyarrow.parquet

from toolkit.core.folder import file_hashes
from toolkit.core.recipe import load_recipe
from toolkit.data.dataset import LocatedDataset, locate_dataset
from toolkit.model import chat
from toolkit.model.chat_template import with_answer

CREATURES = {
    "Vulpix": "a red fox with six tails",
    "Squirtle": "a blue turtle with a shell",
    "Pikachu": "a yellow mouse",
}


def write_dataset(
    folder: Path, splits=("train", "validation", "test"), answer=None, *, strange_validation=False
) -> LocatedDataset:
    """A dataset; with a strange validation split, what is learnt of names soon makes its loss worse."""
    (folder / "data").mkdir(parents=True)
    for split in splits:
        turned = -1 if strange_validation and split == "validation" else 1
        lines = [
            {
                "messages": with_answer(
                    chat.naming_messages(f"It is {text}, seen in {split} {n}."), (answer or name)[::turned]
                )
            }
            for name, text in CREATURES.items()
            for n in range(4 if split == "train" else 1)
        ]
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(lines), folder / "data" / f"{split}-00000-of-00001.parquet"
        )
    return locate_dataset(str(folder))


def recipe(base, **overrides):
    settings = {
        "base": base,
        "training.max_steps": 8,
        "training.batch_size": 4,
        "training.micro_batch_size": 2,
        "training.save_every": 3,
        "training.log_every": 2,
        "training.warmup_steps": 0,
        "training.augmentation": 0.0,
        "training.contrast": 0.0,
        "lora.r": 4,
        # Each step draws random numbers, which going on and trying again must not change.
        "lora.dropout": 0.05,
    }
    return load_recipe("demo", settings | {key.replace("__", "."): value for key, value in overrides.items()})


def adapter_bytes(folder: Path) -> dict[str, str]:
    """Hashes of everything that does not tell times: the cards and the manifest do."""
    return {name: digest for name, digest in file_hashes(folder).items() if not name.startswith("README")}
