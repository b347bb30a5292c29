"""The server of the Data Store protocol."""
