"""Limited resources of one mirror: locks, disk space, connections, bytes per second."""
