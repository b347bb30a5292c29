"""The steps of the workflow: discover, download, extract, and what goes with them."""
