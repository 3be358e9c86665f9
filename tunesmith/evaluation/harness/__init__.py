"""lm-evaluation-harness: its tasks and their scores, and the models that it asks. The only importer of lm_eval."""
