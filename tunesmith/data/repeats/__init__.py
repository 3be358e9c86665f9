"""Rows that repeat other rows: of their own data set, of its held-out splits, or of evaluation sets. Imports core, and
the readers, images and splits of `data`.
"""
