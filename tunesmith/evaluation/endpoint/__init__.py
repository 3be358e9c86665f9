"""The model of a hosted service as a baseline: its endpoint is asked each prompt once, and its answers are kept."""
