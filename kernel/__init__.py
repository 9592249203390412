"""The kernel: contracts, settings, data and the run; it names no task, metric or tokenizer."""
