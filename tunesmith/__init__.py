"""Tunesmith: fine-tune a language model and stand behind the result."""
