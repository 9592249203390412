"""How many GPUs a run would see, asked without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess


def count_gpus() -> int:
    """The GPUs of this machine that the environment leaves visible; 0 where there is no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return 0
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listed = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    there = sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0
    return there if visible is None else min(there, len(visible.split(",")))
