"""Reports on a mirror for people and for scripts."""
