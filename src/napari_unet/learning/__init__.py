"""Networks, losses, training and prediction: torch, but no Qt."""

import os

# An operation that Apple's MPS lacks then runs on the CPU, and torch says so once. It
# must stand in the environment before torch is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
