"""Predict what a training takes before it runs: memory part by part, what fits, the lightest method that does the job.
Pure arithmetic over a model's shape. Imports core, data and models; nothing that trains imports it.
"""
