"""Section ``[mirror]`` of ``luigi.cfg``."""

from collections.abc import Mapping

import luigi

QUIET, NORMAL, VERBOSE = "quiet", "normal", "verbose"
AUTO, NONE, PLAIN, BAR = "auto", "none", "plain", "bar"


class mirror(luigi.Config):  # noqa: N801  (the section of luigi.cfg, and the prefix of --mirror-config)
    """Path of the settings of the mirror, and what a run shows on the console."""

    config = luigi.Parameter(default="mirror.yaml", description="path of the settings file, mirror.yaml")
    console = luigi.ChoiceParameter(
        choices=(QUIET, NORMAL, VERBOSE),
        default=NORMAL,
        description="messages on the console: only what is wrong, failures and numbers, or all",
    )
    progress = luigi.ChoiceParameter(
        choices=(AUTO, NONE, PLAIN, BAR),
        default=AUTO,
        description="progress on the console: none, a line now and then, or a bar; auto: a bar on a terminal",
    )


def use_settings(settings: Mapping[str, str]) -> None:
    """Override settings of the section, by their names, in this process."""
    for name, value in settings.items():
        luigi.configuration.get_config().set("mirror", name, value)
