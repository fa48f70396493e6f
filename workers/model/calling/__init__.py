"""How models call tools: each family's own format, prompted for, held to by a grammar, and read back."""
