"""How good a model is: validation, comparison, the learning curve."""
