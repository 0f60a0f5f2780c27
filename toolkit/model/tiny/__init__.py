"""The tiny base that the demo fine-tunes: a Gemma-architecture model trained from scratch on text of this project.

`base/` holds its files, which `tiny_base/` in the repository made. `toolkit.model.base` finds it by its id.
"""
