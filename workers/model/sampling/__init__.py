"""Drawing tokens for many rows at once; what one row draws never depends on the others."""
