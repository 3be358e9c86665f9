"""Who answers for a model in an evaluation: transformers in this process, or vLLM, which each model is proved on."""
