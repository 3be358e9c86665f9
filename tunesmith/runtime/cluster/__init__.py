"""Run a stage on a Ray cluster: `home` on the machine of `dvc repro`, `node` on each machine that works for it. Ray is
imported in `connection`, `training`, `tasks` and `spread_rows` alone. Imports core, registry through the journals'
publisher, and data for the blocks of rows.
"""
