"""The engines that a user would pick instead, each run in an environment of its own."""
