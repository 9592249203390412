"""The root of the DeepGen checkout: a marker for the tools, not packaged (`deepgen` is a namespace of its parts)."""
