"""params.yaml as one document: every section with its defaults, checks across sections, the params of each stage, and
the edit that an older params.yaml needs. Imports the sections that other packages declare, and no torch.
"""
