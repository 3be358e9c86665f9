"""Where a stage runs: on this host, in a container that can write its outputs and nothing else, or on a Ray cluster. A
stage knows nothing of this package, the only importer of the Docker SDK and of Ray. Imports core, data for the blocks
of rows that a cluster checks, and registry for the journals' publisher.
"""
