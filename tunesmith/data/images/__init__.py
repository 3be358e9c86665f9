"""The images of rows: recognised in records, read and checked, stored once by the digest of their bytes, and compared
between splits. Imports core, and the records, columns, turns and lengths of `data`. Only `normal` imports Pillow.
"""
