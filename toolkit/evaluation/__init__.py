"""An adapter and a dataset become `evaluation.json`, predictions and samples.

`evaluate` is the step itself. `answers` asks a model, `baselines` rank the same candidates without one, and both become
`predictions`, from which every figure follows: `identification` of known creatures and `invention` of names for unseen
ones, by `ranks` and `intervals`.
"""
