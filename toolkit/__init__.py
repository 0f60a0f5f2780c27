"""PokePicker Toolkit: descriptions of creatures, all the way to a published, checked LoRA adapter."""

__version__ = "0.1.0"
