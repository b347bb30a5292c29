"""Section ``[mirror]`` of ``luigi.cfg``."""

import luigi


class mirror(luigi.Config):  # noqa: N801  (the section of luigi.cfg, and the prefix of --mirror-config)
    """Path of the settings of the mirror."""

    config = luigi.Parameter(default="mirror.yaml", description="path of the settings file, mirror.yaml")
