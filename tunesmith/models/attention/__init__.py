"""How rows attend: packed by their offsets, with their prompts computed once, or without their padding."""
