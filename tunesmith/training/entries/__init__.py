"""The typed entries of params.yaml that trainings read, one module an objective: `sft.<name>`, `dpo.<name>` and so on.

Imports core, the names of verifiers and the light settings of models, but no torch: a wrong value is found in a second.
"""
