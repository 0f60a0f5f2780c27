"""Jinja templates of the model card."""
