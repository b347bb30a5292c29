"""The client of a Data Store: listings, and files that arrive whole and verified."""
