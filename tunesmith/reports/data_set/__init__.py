"""The report of a prepared data set, and the page that shows it with some of its rows, as the renderer of models makes
tokens of them. Imports what reports imports.
"""
