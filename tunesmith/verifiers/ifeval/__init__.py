"""IFEval's rules (Zhou et al. 2023, arXiv:2311.07911), by the id of the instruction that each one checks, and the
detection of languages, sentences and words that they need, without a download. Imports nothing else of Tunesmith.
"""
