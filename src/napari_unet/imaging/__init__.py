"""Pure computing on arrays: no torch, no Qt, no disk."""
