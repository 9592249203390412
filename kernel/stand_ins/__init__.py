"""Classes that stand for plugins in other processes: a run uses them like any other plugin."""
