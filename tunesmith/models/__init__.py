"""Model folders and the operations on them: fetch the base, verify, open, add adapters, render chat, generate, score.
The only place that turns messages into tokens. Imports core and data.
"""
