"""The provenance of a model: collect its records, show them as a tree, verify every digest, and rebuild the model from
its commit. Imports core, evaluation and registry.
"""
