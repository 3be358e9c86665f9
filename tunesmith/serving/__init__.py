"""`tunesmith serve`: one OpenAI-compatible address that follows the champion. A version gets requests only after every
byte is checked and its probes are answered as in the evaluation. Imports core, models and registry."""
