"""From a raw file to ready rows: read, recognise, check, compare, split. A row that cannot be used becomes a `Problem`
with its line and reason; none is lost. Imports core and verifiers (a row's own answer must pass its verifier), and no
torch."""
