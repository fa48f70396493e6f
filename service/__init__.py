"""The web process, and everything that the web process and the workers share. Never imports torch."""
