"""The base model: where it comes from, its pin, and its files as a model folder."""
