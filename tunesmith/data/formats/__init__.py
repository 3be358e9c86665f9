"""Formats of raw files: what a file is, whatever its name says, and the readers of each format. Imports core, and the
records of `data`.
"""
