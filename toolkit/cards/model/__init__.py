"""The model card: what an adapter folder says of itself, in English and Korean, with its figures."""
