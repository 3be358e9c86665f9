"""Images in rows: ids of their own among a row's tokens, and pixels where a model computes them. Imports core."""
