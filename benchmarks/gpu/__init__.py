"""What one GPU makes of the product in eight minutes: is it right, how fast is it, and how much memory does it take."""
