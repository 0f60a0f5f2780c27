"""What an evaluation asks of models and baselines, and how every figure follows from their answers."""
