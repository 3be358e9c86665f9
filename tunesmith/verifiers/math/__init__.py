"""The verifier `math`: find the final expression of a text, take it apart, and compare its values with math-verify.
Imports core and the modules of verifiers that read numbers and LaTeX.
"""
