"""What is on disk: layout, markers, publishing, failures, status."""
