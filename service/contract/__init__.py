"""The words that the web process and the workers speak with each other."""
