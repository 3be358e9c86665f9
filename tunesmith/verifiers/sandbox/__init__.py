"""Processes that run generated code and let nothing out of it but plain values: two tiers, bubblewrap and Landlock,
under one filter of system calls. `tiers` picks one that holds here. Imports core.errors, and nothing else of Tunesmith.
"""
