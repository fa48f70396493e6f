"""One module per command; each has an object named `command` and imports what is heavy when it runs."""
