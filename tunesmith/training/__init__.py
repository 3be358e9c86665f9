"""Trainings: one module for each objective, the modules that they share, and the checks that a run must pass. The only
importer of trl and datasets. Imports core, verifiers and models, and never planning, evaluation or registry: code that
is imported here makes models stale when it changes.
"""
