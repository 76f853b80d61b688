"""Text to tokens to activations to batches."""
