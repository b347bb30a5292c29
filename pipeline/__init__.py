"""Library of ipp-mirror: Data Store protocol, bundles, state on disk. Independent of Luigi."""

__version__ = "0.1.0"
