"""What the training loop is made of: steps, checkpoints, strokes, previews, ranks."""
