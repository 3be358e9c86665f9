"""Verdicts on completions. Each verifier is a pure function from completion and row to a `Verdict`; `catalog` lists
them. Model output is hostile: programs run in `sandbox`, algebra in a process that can be killed. Imports core.
"""
