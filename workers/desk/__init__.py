"""A claimed job's way to a recorded reply: claim → media → prompt → engine → record."""
