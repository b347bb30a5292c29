"""Section ``[mirror]`` of ``luigi.cfg``."""

import luigi


class mirror(luigi.Config):  # noqa: N801  (the section of luigi.cfg, and the prefix of --mirror-config)
    """Where the settings of the mirror are."""

    config = luigi.Parameter(default="mirror.yaml", description="path of the settings file, mirror.yaml")
