"""Ask every model the same prompts, grade the answers, compare the models, decide which pass. Statistics are paired and
the gate has three outcomes: pass, fail, undecided. The only importer of lm-eval. Imports core, verifiers, data and
models; never training, so that editing a trainer evaluates nothing again.
"""
