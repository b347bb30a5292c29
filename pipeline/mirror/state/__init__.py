"""State of one mirror on disk: paths, markers, listings, failures, and the filesets pending by them."""
