"""Models: one task a file, over any Hugging Face architecture that fits it."""
