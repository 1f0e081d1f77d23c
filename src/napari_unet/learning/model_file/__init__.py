"""What a model file holds beside its weights, and what is said of it."""
