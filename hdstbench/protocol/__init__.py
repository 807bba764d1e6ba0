"""What a model may see, what it is trained on, and whether that is fair."""
