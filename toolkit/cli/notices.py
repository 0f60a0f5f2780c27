"""Keeps the libraries' own notices and progress bars off the terminal. Call it before they are imported."""

from __future__ import annotations

import logging
import os
import warnings

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "critical",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


def silence() -> None:
    """Only errors of the libraries are shown; warnings that a user can do nothing about are not."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    for name in ("bitsandbytes", "huggingface_hub", "torch", "transformers", "peft", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It writes an error of its own above ours when a file is damaged.
    logging.getLogger("datasets").setLevel(logging.CRITICAL)
