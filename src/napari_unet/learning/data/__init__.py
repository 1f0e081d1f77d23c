"""What is learned from: pairs, fields, planes, and which are held back."""
