"""The contract between harness and models, and how models are found."""
