"""Verdicts on completions. Each verifier is a pure function from completion and row to a `Verdict`; `catalog` lists
them. Model output is hostile: programs run in `sandbox`, and what nothing bounds in a `worker` that can be killed.
Imports core.
"""
