"""Predict what a training takes before it runs: memory part by part, time, what fits, the lightest method that does the
job. Pure arithmetic over a model's shape, but for `hardware` and `rates`, which look at the machine. Imports core, data
and models. `memory` and `fit`, which trainings ask too, import none of `cards`, `speed` and `rates`.
"""
