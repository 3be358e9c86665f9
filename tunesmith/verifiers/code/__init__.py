"""The verifier `code`: take the program out of a completion, refuse tests that run what it returns, and run it against
its cases or its test in the sandbox. Imports core, and of verifiers the sandbox and the verdict.
"""
