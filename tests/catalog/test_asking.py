"""The questions in docs/catalog.md, asked of the catalog of the sample release."""

import doctest
import re
import shlex
from datetime import date, datetime, timedelta

import astropy.units as u
import pytest
from support.command import REPOSITORY, ended, ipp_mirror

from pipeline.catalog import open_catalog
from pipeline.errors import SettingsError
from pipeline.sample.plan import ReleasePlan
from pipeline.sample.release import PARTNER, write_release
from pipeline.sample.simulator import simulate

DOCUMENT = (REPOSITORY / "docs" / "catalog.md").read_text()
ROOT = "/panstarrs/data/MIRROR"
COMMANDS = re.findall(r"^\$ ipp-mirror ([^\n]*)\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The settings of a mirror of the sample release, whose root stands for the one in the document."""
    folder = tmp_path_factory.mktemp("site")
    write_release(folder / "store", ReleasePlan())
    path = folder / "mirror.yaml"
    with simulate(folder / "store", hidden=[PARTNER.name]) as server:
        source = f"source: {{url: {server.url}, hidden_products: [{PARTNER.name}]}}"
        path.write_text(
            f"{source}\nmirror: {{root: mirror, page: false}}\ncatalog: {{enabled: true, coverage: false}}\n"
        )
        update = ipp_mirror("update", "--config", path)
    assert update.returncode == 0, update.stdout + update.stderr
    return path


@pytest.fixture
def as_documented(config):
    """Return text with the root of the mirror as the document has it."""
    return lambda text: text.replace(str(config.parent / "mirror"), ROOT)


def test_the_questions_on_the_command_line(config, as_documented):
    for command, answer in COMMANDS:
        shown = ipp_mirror(*shlex.split(command), "--config", config)
        assert (command, shown.returncode, shown.stderr) == (command, 0, "")
        assert as_documented(shown.stdout) == answer, command


def test_a_stage_without_images_is_left_to_sql(config):
    shown = ipp_mirror("find", "--object", "MD01", "--stage", "camera", "--config", config)
    assert (shown.returncode, shown.stdout) == (0, "")
    assert shown.stderr.endswith(
        "Filesets of it have other files, such as catalogs: `ipp-mirror sql` finds them "
        "in the table member.\n"
    )


def test_there_are_ten_questions():
    assert len(COMMANDS) == 10
    assert re.findall(r"^\*\*(\d+)\.", DOCUMENT, re.MULTILINE) == [str(number) for number in range(1, 11)]


def test_the_question_in_a_notebook(config):
    (block,) = re.findall(r"```python\n(>>>.*?)```", DOCUMENT, re.DOTALL)
    source = block.replace(ROOT, str(config.parent / "mirror"))
    parsed = doctest.DocTestParser().get_doctest(source, {}, "docs/catalog.md", "docs/catalog.md", 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(parsed)
    assert (runner.failures, runner.tries) == (0, len(parsed.examples))


def test_the_catalog_of_a_settings_file_and_of_a_root_folder(config):
    root = config.parent / "mirror"
    for mirror in (config, str(config), root, root / "status" / "catalog.sqlite"):
        with open_catalog(mirror) as catalog:
            found = catalog.find(stage="warp", filter="r", columns=["path"])
        assert len(found) == 7
        assert found["path"][0].startswith(f"{root}/data/gpc1/MD01.200907/2009/07/29/")


def test_criteria_of_python(config):
    with open_catalog(config) as catalog:

        def number(**criteria):
            return len(catalog.find(columns=["path"], **criteria))

        chips = number(stage="chip", night="2009-07-29")
        assert chips == number(stage=["chip"], night=date(2009, 7, 29)) == 8
        assert chips == number(stage="chip", after="2009-07-29", before=datetime(2009, 7, 30))
        cone = {"at": (35.9231, -4.2843), "stage": "chip"}
        assert len({number(**cone, radius=radius) for radius in ("1arcmin", 1 / 60, 1 * u.arcmin)}) == 1
        assert number(arrived_since="1d") == number(arrived_since=timedelta(days=1)) == number()
        for wrong in ({"at": "here"}, {"radius": 1}, {"night": "x"}, {"at": (0, 91)}):
            with pytest.raises(ValueError, match="expected"):
                number(**wrong)
        with pytest.raises(TypeError, match=r"got 'nights'\. Did you mean 'night'\?$"):
            number(nights="2009-07-29")
        with pytest.raises(TypeError, match=r"got 'seeing'\. There are after, arrived_since, at, before, "):
            number(seeing=1)
        with pytest.raises(ValueError, match=r"expected some of the columns path, .*; got 'seeing'"):
            catalog.find(columns=["seeing"])
        with pytest.raises(
            ValueError, match=r"^expected columns of images, got 'paht'\. Did you mean 'path'\?$"
        ):
            catalog.find(columns=["ra", "paht"])
        with pytest.raises(SettingsError, match="got DROP, and the catalog is read-only"):
            catalog.sql("DROP TABLE image")


@pytest.mark.parametrize("name", ["mirror", "mirror.yaml", "mirror.sqlite"])
def test_a_catalog_where_nothing_is(tmp_path, name):
    expected = f"^{tmp_path}/{name}: expected the root folder of a mirror, its settings file, or a snapshot"
    with pytest.raises(SettingsError, match=expected):
        open_catalog(tmp_path / name)
    (tmp_path / "mirror").mkdir()
    with pytest.raises(
        SettingsError, match=r"\(status/catalog\.sqlite\), got a folder without mirror\.json\.$"
    ):
        open_catalog(tmp_path / "mirror")


def test_each_file_that_is_found_is_there(config):
    paths = ipp_mirror("find", "--config", config, "--kind", "*", "--format", "paths").stdout.split()
    assert len(paths) > 100
    missing = ended(["ls", *paths]).code
    assert missing == 0
