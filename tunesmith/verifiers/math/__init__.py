"""The verifier `math`: find the final expression of a text, take it apart, and compare its values with math-verify in a
worker process that can be killed. Imports core and the modules of verifiers that read numbers and LaTeX.
"""
