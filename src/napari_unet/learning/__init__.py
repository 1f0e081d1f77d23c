"""Networks, losses, training and prediction: torch, but no Qt."""

import os

# Both must stand in the environment before torch is imported.

# Threads that wait for each other sleep instead of spinning: beside a busy window or
# another job on the same cores, spinning makes each step several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# An operation that Apple's MPS lacks then runs on the CPU, and torch says so once.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
