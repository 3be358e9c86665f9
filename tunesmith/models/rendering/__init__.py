"""How a chat template wants its turns, and where tokens end between them, both found by rendering. Imports core."""
