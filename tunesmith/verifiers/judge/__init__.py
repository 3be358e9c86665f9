"""A judge model behind an endpoint with OpenAI's chat completions, and the class of a refusal by it. Imports core and
the modules of verifiers that classify refusals.
"""
