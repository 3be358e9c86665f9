"""The columns of a record: their names, cells that are not what they look like, prompts of several columns, and the
account of what no part of a row uses. Imports core, and the turns of `data`.
"""
