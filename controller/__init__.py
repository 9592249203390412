"""The control plane: the deepgen command and, from it, everything a person or a client calls."""
