"""Controls: what no image, no training or no neighbourhood already achieves."""
