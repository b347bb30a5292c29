"""Database of what the mirror holds: filesets, files, images, and the rows of their documents."""
