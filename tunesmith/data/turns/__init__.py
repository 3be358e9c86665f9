"""Turns as data sets and APIs write them, turned into the one form of a turn, `ready_rows.Message`. Imports core, and
the records of `data`.
"""
