"""Where a stage runs: on this host, or in a container that can write its outputs and nothing else. A stage knows
nothing of this package, the only importer of the Docker SDK. Imports core, and registry for the journals' publisher.
"""
