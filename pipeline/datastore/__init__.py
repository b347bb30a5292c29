"""The Data Store protocol: listings, client, server. It knows nothing of mirrors."""
