"""lm-evaluation-harness: its tasks and their scores, and the models that it asks. Alone imports lm_eval."""
