"""Trainers: the training loop and its variations; one a file."""
