"""Predict what a training takes before it runs: memory part by part, what fits, the lightest method that does the job.
Pure arithmetic over a model's shape. Imports core, data and models; a training imports what
predicts memory, to decide its batch.
"""
