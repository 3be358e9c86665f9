"""The verifier `refusal`: whether an answer refuses, complies or does half of each, by its phrases or by a judge model.
Imports core and the other modules of verifiers.
"""
