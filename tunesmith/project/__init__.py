"""params.yaml as a whole: every section with its defaults, checks across sections, the params of each stage, and the
edit that an older params.yaml needs. Imports the sections that the packages below declare, and no torch.
"""
