"""Optional help for models written in torch; imported by model packages only."""
