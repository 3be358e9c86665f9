"""MLflow, and why it can be trusted: runs and registered versions, signatures, and the signed ledger of promotions;
`provenance` shows, verifies and rebuilds where a model comes from. The only importer of mlflow and model_signing.
Imports core and evaluation.
"""
