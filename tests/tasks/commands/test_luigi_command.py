"""Runs of tasks without a command line for Luigi: what Luigi's settings may say."""

from collections.abc import Callable, Iterator

import luigi.configuration
import pytest

from pipeline.errors import SettingsError
from tasks.commands.luigi_command import run_task, run_worker

COMMANDS = {
    "update": lambda: run_task("UpdateMirror", {}, None, None, {}),
    "worker": lambda: run_worker(None, None, {}, None, None),
}


@pytest.fixture
def settings() -> Iterator[Callable[[str, str, str], None]]:
    """Sets a value of Luigi's settings until the test ends."""
    luigi_settings = luigi.configuration.get_config()
    changed: list[tuple[str, str, str | None]] = []

    def set_value(section: str, name: str, value: str) -> None:
        changed.append((section, name, luigi_settings.get(section, name, None)))
        luigi_settings.set(section, name, value)

    yield set_value
    for section, name, before in changed:
        if before is None:
            luigi_settings.remove_option(section, name)
        else:
            luigi_settings.set(section, name, before)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("core", "workers", "many"), ("mirror", "console", "loud"), ("mirror", "progress", "${NO_SUCH}")],
)
def test_a_wrong_value_in_the_settings_of_luigi_is_one_sentence(command, section, name, value, settings):
    settings(section, name, value)
    with pytest.raises(SettingsError) as raised:
        COMMANDS[command]()
    said = str(raised.value)
    assert said.startswith(f"section [{section}] of luigi.cfg: {name}: ")
    assert "\n" not in said
    assert said.endswith(". Nothing was started.")
