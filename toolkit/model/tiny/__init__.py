"""The tiny base that the demo fine-tunes: a Gemma-architecture model trained from scratch on text of this project.

`base/` holds its files, and `making/` the code that made them. `toolkit.model.base` finds it by its id.
"""
