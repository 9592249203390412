"""A finished model behind gRPC: rows of many clients are answered in common batches."""
