"""Dataset folder and base to adapter folder, by QLoRA."""
