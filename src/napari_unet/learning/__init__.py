"""Networks, losses, training and prediction: torch, but no Qt."""
