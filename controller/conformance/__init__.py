"""Checks that a plugin, in this process or in another one and in any language, does what the protocol says."""
