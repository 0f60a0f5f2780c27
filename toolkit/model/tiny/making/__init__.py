"""How the tiny base was made: synthetic creatures, a tokenizer, pre-training."""
