"""The public address: what a request may ask, the engine that answers it, and the answer on its way back."""
