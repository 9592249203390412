"""Outputters: how a row of the result file is written; one format a file."""
