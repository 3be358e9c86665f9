"""Processes that can be killed, in which a verifier runs whose time or memory nothing else bounds: a pool of them, and
the loop that runs inside. Imports core.cpus, and nothing else of Tunesmith.
"""
