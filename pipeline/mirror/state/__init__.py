"""The knowledge of one mirror on disk: paths, markers, listings, failures, and what follows from them."""
