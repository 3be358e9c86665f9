"""Trainings: one module for each objective, the modules that they share, and the checks that a run must pass. The only
importer of trl and datasets. Imports core, verifiers, models and planning, and never evaluation or registry: code that
is imported here makes models stale when it changes.
"""
