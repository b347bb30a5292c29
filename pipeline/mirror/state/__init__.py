"""State of a mirror on disk: what is known, done, failed and skipped."""
