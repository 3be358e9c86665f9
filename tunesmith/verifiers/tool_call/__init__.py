"""Grading of tool calls: read from a completion in the forms that chat templates teach, and compared with a row's.
Imports core.
"""
