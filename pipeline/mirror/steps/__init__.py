"""Steps of the workflow: discover, download, extract, and removal, verification and housekeeping."""
