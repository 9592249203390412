"""Processors: input columns in, model features out; one a file."""
