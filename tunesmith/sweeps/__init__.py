"""Searches for the params of one training: trials as DVC experiments, chosen on the validation split alone.

Imports `project` and what stands below it; optuna is imported here alone, in `study`.
"""
