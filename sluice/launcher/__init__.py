"""Starts a whole local stack as child processes, keeps it alive, and takes it down with us."""
