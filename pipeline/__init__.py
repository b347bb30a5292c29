"""The library of ipp-mirror: protocol, bundles, what is on disk. It knows nothing of Luigi."""

__version__ = "0.1.0"
