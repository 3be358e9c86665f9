"""Reports that people read: the comparison page, the data page, the model card, CSVs for `dvc plots`. Pure functions
from typed data to text. Imports core, verifiers, data, models and evaluation.
"""
