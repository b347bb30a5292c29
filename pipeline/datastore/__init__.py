"""Data Store protocol: listings, client, server. Independent of the mirror."""
