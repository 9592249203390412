"""The plugins that ship with DeepGen; the registry finds them by kind and name."""
