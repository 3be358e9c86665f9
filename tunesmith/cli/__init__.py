"""The `tunesmith` command, a module per command: load params, call a package, print. Imports every package; no package
imports it.
"""
