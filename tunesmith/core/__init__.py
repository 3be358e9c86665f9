"""The ground that the other packages stand on: the error tree, typed params, files that appear whole, manifests, the
training journal, lineage, git and DVC, statistics, and the fingerprint of a stage's code. Imports no other package of
Tunesmith, and no torch. The only importer of dvc.
"""
