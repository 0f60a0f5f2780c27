"""A dataset folder and a base become an adapter folder, by QLoRA.

`train` is the step itself. `lessons` turns rows into examples, `trainer` prepares the model and sets up the
`transformers` Trainer, `micro_batch` fits its batches into memory, `packing` computes their loss, `contrast` tells
answers apart, `progress` reports, and `checkpoints` makes an interruption cost nothing.
"""
