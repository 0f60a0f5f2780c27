"""The tiny base that the demo fine-tunes: a Gemma-architecture model trained from scratch on text of this project."""

from pathlib import Path


def base_folder() -> Path:
    """Where the tiny base's files lie in the installed package."""
    return Path(__file__).parent / "base"
