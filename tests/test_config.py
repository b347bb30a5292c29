"""The settings file: every key, every kind of mistake, and the sentence that a mistake is answered with."""

import json
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Mirror, Settings, Source, read_settings
from pipeline.errors import EXIT_SETTINGS_OR_BUG, SettingsError
from pipeline.mirror.state.selection import old_filesets

COMPLETE = """\
source:
  url: http://alala2.ifa.hawaii.edu/ipp049/ds/
  hidden_products: [md-all-rel-200907, durham-200907]
  connections: 12
  timeout: 7.5
  least_speed: 2 kB/s
  attempts: 9
  retry_pause: 2
  rate_limit: 50 MB/s
mirror:
  root: MIRROR
  products:
    - md-all-rel-200907
    - name: threepi-all-200908
      select:
        stage: [camera, stack]
        filter: "r.*"
        target_id: 12
        registered_after: 2009-08-01
        registered_before: "2009-09-01T12:00:00-10:00"
        priority: 10
      order: oldest
      priority: -5
  order: newest
  unpack: false
  keep_bundles: false
  on_removed: delete
  min_free: 20 GB
  volumes: {"threepi-*": /disk2/ps1, "md*": {path: disk3/../disk4, min_free: 2 TB}}
  retry_every_run: 3
  delete_at_most: 0.25
  unpack_ratio: 50
  page: false
  must_exist: true
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "site" / "mirror.yaml"


def read(file: Path, text: str) -> Settings:
    file.parent.mkdir(exist_ok=True)
    file.write_text(dedent(text))
    return read_settings(file)


def settings_with(file: Path, source: str = "", mirror: str = "") -> Settings:
    """The least settings, with one more line in a section: line 3 in ``source``, line 6 in ``mirror``."""
    return read(file, f"source:\n  url: http://h/ds\n  {source}\nmirror:\n  root: r\n  {mirror}\n")


def refusal(file: Path, **line: str) -> str:
    with pytest.raises(SettingsError) as raised:
        settings_with(file, **line)
    assert raised.value.exit_code == EXIT_SETTINGS_OR_BUG
    said = str(raised.value)
    assert said.startswith(str(file))
    assert "\n" not in said
    return said.removeprefix(str(file))


def test_every_setting(file):
    settings = read(file, COMPLETE)
    assert settings.source.model_dump() == {
        "url": "http://alala2.ifa.hawaii.edu/ipp049/ds",
        "hidden_products": ["md-all-rel-200907", "durham-200907"],
        "connections": 12,
        "timeout": 7.5,
        "least_speed": 2000,
        "attempts": 9,
        "retry_pause": 2.0,
        "rate_limit": 50_000_000,
    }
    assert settings.mirror.model_dump(exclude={"products"}) == {
        "root": file.parent / "MIRROR",
        "order": "newest",
        "unpack": False,
        "keep_bundles": False,
        "on_removed": "delete",
        "min_free": 20_000_000_000,
        "volumes": {
            "threepi-*": {"path": Path("/disk2/ps1"), "min_free": None},
            "md*": {"path": file.parent / "disk4", "min_free": 2 * 10**12},
        },
        "retry_every_run": 3,
        "delete_at_most": 0.25,
        "unpack_ratio": 50,
        "page": False,
        "must_exist": True,
    }
    plain, selected = settings.mirror.products
    assert (plain.name, plain.select) == ("md-all-rel-200907", None)
    assert selected.name == "threepi-all-200908"
    assert (selected.priority, selected.order) == (-5, "oldest")
    (select,) = selected.select
    assert select.priority == 10
    assert select.patterns == {
        "stage": ["camera", "stack"],
        "filter": ["r.*"],
        "target_id": ["12"],
    }
    assert select.registered_after == datetime(2009, 8, 1, tzinfo=UTC)
    assert select.registered_before == datetime(2009, 9, 1, 22, tzinfo=UTC)


def test_what_holds_when_only_the_needed_is_set(file):
    settings = settings_with(file)
    assert settings.source.model_dump() == {
        "url": "http://h/ds",
        "hidden_products": [],
        "connections": 16,
        "timeout": 60.0,
        "least_speed": 1000,
        "attempts": 4,
        "retry_pause": 1.0,
        "rate_limit": None,
    }
    assert settings.mirror.model_dump() == {
        "root": file.parent / "r",
        "products": None,
        "order": "oldest",
        "unpack": True,
        "keep_bundles": True,
        "on_removed": "keep",
        "min_free": 0,
        "volumes": {},
        "retry_every_run": 5,
        "delete_at_most": 0.1,
        "must_exist": False,
        "unpack_ratio": 200,
        "page": True,
    }


def test_the_first_pattern_that_matches_is_the_volume_of_a_product(file):
    mirror = settings_with(file, mirror="volumes: {md.1: /a, 'md.[12]': /b, '*.1': /c}").mirror
    found = {name: mirror.volume(name) for name in ("md.1", "md.2", "x.1", "MD.1", "x.2")}
    paths = {name: volume and str(volume.path) for name, volume in found.items()}
    assert paths == {"md.1": "/a", "md.2": "/b", "x.1": "/c", "MD.1": "/c", "x.2": None}


def test_a_volume_that_a_link_leads_into_the_root(file):
    (file.parent / "r" / "disk").mkdir(parents=True)
    (file.parent / "link").symlink_to("r/disk")
    assert refusal(file, mirror="volumes: {md: link}") == (
        f", line 6: mirror.volumes: expected folders outside mirror.root, got {file.parent}/link for 'md'. "
        "Nothing was started."
    )


def test_the_settings_of_one_product(file):
    settings = read(file, COMPLETE)
    assert settings.product("threepi-all-200908").select is not None
    assert settings.product("md-all-rel-200907").select is None
    assert settings.product("another").name == "another"


def test_the_order_of_a_product_is_that_of_the_mirror_unless_it_has_its_own(file):
    settings = read(file, COMPLETE)
    named = ("threepi-all-200908", "md-all-rel-200907", "another")
    assert [settings.product(name).order for name in named] == ["oldest", "newest", "newest"]


def test_a_list_of_selections(file):
    line = "products: [{name: p, select: [{stage: stack, priority: 3}, {filter: r}]}]"
    first, second = settings_with(file, mirror=line).product("p").select
    assert (first.patterns, first.priority) == ({"stage": ["stack"]}, 3)
    assert (second.patterns, second.priority) == ({"filter": ["r"]}, None)


def test_a_relative_root_is_taken_from_the_folder_of_the_file(file, tmp_path, monkeypatch):
    settings_with(file)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.yaml").symlink_to(file)
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read_settings(Path("../site/mirror.yaml")).mirror.root == file.parent / "r"
    assert read_settings(Path("link.yaml")).mirror.root == file.parent / "r"
    for root, where in {
        "../beside": tmp_path / "beside",
        ".": file.parent,
        "/abs/./x/..": Path("/abs"),
        "~/m": tmp_path / "home" / "m",
    }.items():
        assert read(file, f"source: {{url: http://h}}\nmirror: {{root: {root}}}").mirror.root == where


def test_symbolic_links_are_kept_in_the_root(file, tmp_path):
    """Documents hold the path of the root: the link may lead to another disk later."""
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "disk" / "deep")
    settings = "source: {url: http://h}\nmirror: {root: %s}"
    assert read(file, settings % f"{link}/MIRROR").mirror.root == link / "MIRROR"
    assert read(file, settings % "../data/MIRROR").mirror.root == link / "MIRROR"
    # The parent of a link is that of the folder it leads to.
    assert read(file, settings % f"{link}/../MIRROR").mirror.root == tmp_path / "disk" / "MIRROR"
    assert read(link / "mirror.yaml", settings % "MIRROR").mirror.root == link / "MIRROR"


@pytest.mark.parametrize("root", ["/", "//", "/.", "/tmp/..", "../" * 40])
def test_the_root_of_the_file_system_is_no_mirror(root, file):
    with pytest.raises(SettingsError, match=r"line 4: mirror\.root: expected a folder for the mirror"):
        read(file, f"source:\n  url: http://h\nmirror:\n  root: {root}\n")


@pytest.mark.parametrize("root", ["$HOME/MIRROR", "/data/${USER}"])
def test_variables_in_a_root_are_refused_as_they_are_not_replaced(root, file):
    with pytest.raises(SettingsError, match=r"'~' is replaced, variables are not, got '"):
        read(file, f"source:\n  url: http://h\nmirror:\n  root: {root}\n")


@pytest.mark.parametrize("root", ["a#b", "a\\nb", "a\\rb", "a\\tb", "\\x1b[31m", "\\u2028", "\\ud800"])
def test_a_root_that_documents_could_not_hold(root, file):
    with pytest.raises(SettingsError, match=r"line 4: mirror\.root: expected a path without '#' and control"):
        read(file, f'source:\n  url: http://h\nmirror:\n  root: "{root}"\n')


def test_a_folder_of_the_settings_that_documents_could_not_hold(tmp_path):
    with pytest.raises(SettingsError, match=r"mirror\.root: expected a path without '#' and control"):
        read(tmp_path / "disk#1" / "mirror.yaml", "source: {url: http://h}\nmirror: {root: MIRROR}")


def test_a_root_with_blanks_and_letters_of_any_language(file):
    text = "source: {url: http://h}\nmirror: {root: /data/Milky Way/星}"
    assert read(file, text).mirror.root == Path("/data/Milky Way/星")


def test_a_root_after_two_slashes_is_that_after_one(file):
    assert read(file, "source: {url: http://h}\nmirror: {root: //data/mirror}").mirror.root == Path(
        "/data/mirror"
    )


@pytest.mark.parametrize("root", ["5", "null", "[a]", '""', '"a\\0b"', "~no-such-user/x", "true"])
def test_a_root_that_is_no_folder(root, file):
    with pytest.raises(SettingsError, match=r"line 4: mirror\.root: expected the path of a folder"):
        read(file, f"source:\n  url: http://h\nmirror:\n  root: {root}\n")


@pytest.mark.parametrize(
    ("text", "size"), {"1234567": 1_234_567, "20 GB": 20 * 10**9, "1.5 GiB": 3 * 2**29}.items()
)
def test_sizes(text, size, file):
    assert settings_with(file, mirror=f"min_free: {text}").mirror.min_free == size


NO_SIZES = [
    "true",
    "null",
    "20.5",
    "20 gb",
    "[1]",
    ".inf",
    "-1",
    "-1 GB",
    "20 PB",
    "9" * 30,
    "9" * 400 + " TB",
]


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size(text, file):
    said = refusal(file, mirror=f"min_free: {text}")
    expected = "expected a size such as 20 GB, from 0 to 10^18 bytes, got "
    assert said.startswith(f", line 6: mirror.min_free: {expected}")


@pytest.mark.parametrize("name", ["rate_limit", "least_speed"])
@pytest.mark.parametrize(("text", "rate"), {"50 MB/s": 50_000_000, "1 KiB/s": 1024, "7": 7}.items())
def test_rates(text, rate, name, file):
    assert getattr(settings_with(file, source=f"{name}: {text}").source, name) == rate


@pytest.mark.parametrize("name", ["rate_limit", "least_speed"])
@pytest.mark.parametrize("text", ["fast", "true", "50 MB/min", "[1]", "1.5", "0", "-5 MB/s", "1 PB/s"])
def test_what_is_no_rate(text, name, file):
    said = refusal(file, source=f"{name}: {text}")
    expected = "expected a rate such as 50 MB/s, from 1 to 10^18 bytes per second, got "
    assert f", line 3: source.{name}: {expected}" in said


@pytest.mark.parametrize(
    "text",
    ["30", "30 minutes", "0.5 hours", "0 hours", "-3 days", "5001 weeks", "9999999 days", "999999w " * 150],
)
def test_what_is_no_time_to_keep(text, file):
    said = refusal(file, mirror=f"products: [{{name: p, select: {{keep: {text}}}}}]")
    expected = "expected a duration such as 36 hours, 30 days or 8 weeks, from an hour to 5000 weeks, got "
    assert f"mirror.products.select.keep of product p: {expected}" in said


@pytest.mark.parametrize("keep", ["1 hour", "5000 weeks"])
def test_each_time_to_keep_is_one_that_can_be_subtracted(keep, file):
    product = settings_with(file, mirror=f"products: [{{name: p, select: {{keep: {keep}}}}}]").product("p")
    assert old_filesets(product, [("a", "1000-01-01T00:00:00Z"), ("b", "9999-01-01T00:00:00Z")]) == {"a"}


def test_rates_by_hours_of_the_day(file):
    line = 'rate_limit: {"08:00-18:00": 10 MB/s, "22:30 - 06:00": 2 kB/s, default: 7}'
    rates = settings_with(file, source=line).source.rate_limit.by_minute()
    assert len(rates) == 24 * 60
    assert [(minute, rates[minute]) for minute in range(1440) if rates[minute] != rates[minute - 1]] == [
        (6 * 60, 7),
        (8 * 60, 10_000_000),
        (18 * 60, 7),
        (22 * 60 + 30, 2000),
    ]
    whole = settings_with(file, source='rate_limit: {"12:00-24:00": 5}').source.rate_limit.by_minute()
    assert whole == [None] * 720 + [5] * 720


HOURS = "expected hours such as 08:00-18:00, from 00:00 to 24:00, or default"
WRONG_HOURS = {
    "{}": "expected hours such as '08:00-18:00: 10 MB/s', or a rate alone",
    "{default: 5 MB/s}": "expected hours such as '08:00-18:00: 10 MB/s', or a rate alone",
    "{'8-18': 5 MB/s}": f"{HOURS}, got '8-18'",
    "{'08:00-25:00': 5 MB/s}": f"{HOURS}, got '08:00-25:00'",
    "{'08:00-08:00': 5 MB/s}": f"{HOURS}, got '08:00-08:00'",
    "{'08:00-12:00': 5, '11:59-13:00': 6}": "expected hours that do not overlap",
    "{'22:00-06:00': 5, '05:00-07:00': 6}": "expected hours that do not overlap",
    "{'08:00-12:00': fast}": "expected a rate such as 50 MB/s",
    "{'08:00-12:00': 0}": "expected a rate such as 50 MB/s, from 1 to",
}


@pytest.mark.parametrize("value", WRONG_HOURS)
def test_what_are_no_rates_by_hours(value, file):
    said = refusal(file, source=f"rate_limit: {value}")
    assert f", line 3: source.rate_limit: {WRONG_HOURS[value]}" in said


WRONG = {
    "connections: 0": "source.connections: expected a whole number from 1 to 256, got 0",
    "connections: 257": "source.connections: expected a whole number from 1 to 256, got 257",
    "connections: true": "source.connections: expected a whole number from 1 to 256, got true",
    "connections: 'eight'": "source.connections: expected a whole number from 1 to 256, got 'eight'",
    "connections: 1.5": "source.connections: expected a whole number from 1 to 256, got 1.5",
    "timeout: 0": "source.timeout: expected a number from 0.001 to 86400 seconds, got 0",
    "timeout: true": "source.timeout: expected a number from 0.001 to 86400 seconds, got true",
    "timeout: '60'": "source.timeout: expected a number from 0.001 to 86400 seconds, got '60'",
    "timeout: .inf": "source.timeout: expected a number from 0.001 to 86400 seconds, got inf",
    "attempts: 0": "source.attempts: expected a whole number from 1 to 100, got 0",
    "attempts: 101": "source.attempts: expected a whole number from 1 to 100, got 101",
    "retry_pause: -1": "source.retry_pause: expected a number from 0 to 86400 seconds, got -1",
    "retry_pause: soon": "source.retry_pause: expected a number from 0 to 86400 seconds, got 'soon'",
    "hidden_products: p": "source.hidden_products: expected a list, such as [A, B], got 'p'",
    "hidden_products: [a, b/c]": "source.hidden_products.1: product name: expected letters",
    "conections: 8": "unknown setting 'source.conections'. Did you mean 'connections'?",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_the_source_refuses(line, file):
    assert refusal(file, source=line).startswith(f", line 3: {WRONG[line]}")


WRONG_MIRROR = {
    "unpack: 1": "mirror.unpack: expected true or false, got 1",
    "must_exist: 1": "mirror.must_exist: expected true or false, got 1",
    "keep_bundles: 'no'": "mirror.keep_bundles: expected true or false, got 'no'",
    "on_removed: maybe": "mirror.on_removed: expected 'keep' or 'delete', got 'maybe'",
    "volumes: /disk2": "mirror.volumes: expected a name and a value in each line below it, got '/disk2'",
    "volumes: {md: }": "mirror.volumes.md: expected settings of its own",
    "volumes: {md: 5}": "mirror.volumes.md: expected settings of its own",
    "volumes: {md: /}": "mirror.volumes.md.path: expected a folder for the mirror alone",
    "volumes: {md: {min_free: 5}}": "missing setting 'mirror.volumes.md.path'",
    "volumes: {md: {path: /a, min_free: much}}": "mirror.volumes.md.min_free: expected a size such as 20 GB",
    "volumes: {md: {path: /a, least: 5}}": "unknown setting 'mirror.volumes.md.least'; expected one of "
    "path, min_free",
    "volumes: {md/a: /a}": "mirror.volumes: expected names of products, or shell patterns of them, got",
    "volumes: {md: r/disk}": "mirror.volumes: expected folders outside mirror.root, got ",
    "volumes: {2009: /a}": "mirror.volumes.2009: expected text, in quotation marks where it looks like "
    "a number, got 2009",
    "retry_every_run: 0": "mirror.retry_every_run: expected a whole number of at least 1, got 0",
    "delete_at_most: 1.1": "mirror.delete_at_most: expected a number from 0 to 1, got 1.1",
    "delete_at_most: true": "mirror.delete_at_most: expected a number from 0 to 1, got true",
    "unpack_ratio: 0": "mirror.unpack_ratio: expected a whole number of at least 1, got 0",
    "products: []": "mirror.products: expected at least one product; leave it out to mirror all of them",
    "products: p": "mirror.products: expected a list, such as [A, B], got 'p'",
    "products: [p, q, p]": "mirror.products: expected each product once, got 'p' more than once",
    "products: [5]": "mirror.products.0: expected settings of its own",
    "products: [p, ../q]": "mirror.products.1.name: product name: expected letters",
    "products: [{}]": "missing setting 'mirror.products.0.name'",
    "products: [{name: p, selct: {}}]": "unknown setting 'mirror.products.selct' of product p. Did you "
    "mean 'select'?",
    "products: [{name: p, select: chip}]": "mirror.products.select of product p: expected settings of "
    "its own",
    "products: [{name: p, select: []}]": "mirror.products.select of product p: expected conditions, or "
    "a list of them",
    "products: [{name: p, select: [{}, chip]}]": "mirror.products.select.1 of product p: expected "
    "settings of its own",
    "products: [{name: p, select: {priority: high}}]": "mirror.products.select.priority of product p: "
    "expected a whole "
    "number from -100 to 100, got 'high'",
    "products: [{name: p, priority: 101}]": "mirror.products.priority of product p: expected a whole "
    "number from -100",
    "products: [{name: p, members: {a: b}}]": "mirror.products.members of product p: expected a shell "
    "pattern or a list",
    "products: [{name: p, begin_after: ../f}]": "mirror.products.begin_after of product p: fileset "
    "name: expected",
    "products: [{name: p, files: []}]": "mirror.products.files of product p: expected a shell pattern "
    "or a list of them",
    "products: [{name: p, order: latest}]": "mirror.products.order of product p: expected 'oldest' or "
    "'newest', got",
    "order: 5": "mirror.order: expected 'oldest' or 'newest', got 5",
    "5: x": "mirror.5: expected names of settings, which are text, got 5",
    "catalog: {}": "unknown setting 'mirror.catalog'. Did you mean 'catalog'?",
}


@pytest.mark.parametrize("line", WRONG_MIRROR)
def test_what_the_mirror_refuses(line, file):
    said = refusal(file, mirror=line)
    assert said.startswith(f", line 6: {WRONG_MIRROR[line]}")
    assert said.endswith((". Nothing was started.", "? Nothing was started."))


@pytest.mark.parametrize("value", ["[]", "[[a]]", "true", "[a, false]", "1.5", "2009-07-29", "{a: b}"])
def test_what_is_no_pattern(value, file):
    said = refusal(file, mirror=f"products: [{{name: p, select: {{stage: {value}}}}}]")
    assert (
        ", line 6: mirror.products.select.stage of product p: expected a shell pattern or a list of them"
        in said
    )


NO_TIMES = ["2009", "soon", "true", "[2009-08-01]", "10000-01-01", "0001-01-01T00:00:00+14:00"]


@pytest.mark.parametrize("value", NO_TIMES)
def test_what_is_no_time(value, file):
    said = refusal(file, mirror=f"products: [{{name: p, select: {{registered_after: {value}}}}}]")
    expected = "expected a date or a time such as 2009-08-01T00:00:00Z, in the years 1 to 9999 of UTC, got "
    assert f", line 6: mirror.products.select.registered_after of product p: {expected}" in said


NEAR = {
    "{ra: 36, dec: -4.5, radius: 1.5}": (36.0, -4.5, 1.5),
    "{ra: 10:42:44.3, dec: +41:16:09, radius: 30arcmin}": (160.6845833, 41.2691667, 0.5),
    "{ra: 2:30, dec: 0:30, radius: 90 arcsec}": (37.5, 0.5, 0.025),
}


@pytest.mark.parametrize("near", NEAR)
def test_a_cone_on_the_sky(near, file):
    settings = settings_with(file, mirror=f"products: [{{name: p, select: {{near: {near}, clean: no}}}}]")
    [select] = settings.product("p").select
    assert (select.near.ra, select.near.dec, select.near.radius) == pytest.approx(NEAR[near])
    assert (select.by_sky, select.patterns) == (["near", "clean"], {})


NO_CONE = {
    "near: {ra: 36, dec: -91, radius: 1}": "near of product p: expected a right ascension from 0 to 360 "
    "degrees and",
    "near: {ra: west, dec: 1, radius: 1}": "near of product p: expected a position 'RA DEC' in degrees "
    "such as",
    "near: {ra: true, dec: 1, radius: 1}": "near of product p: expected a position 'RA DEC' in degrees "
    "such as",
    "near: {ra: .nan, dec: 1, radius: 1}": "near of product p: expected a position 'RA DEC' in degrees "
    "such as",
    "near: {ra: 36, dec: 1, radius: wide}": "near.radius of product p: expected an angle such as "
    "5arcmin, 30arcsec or",
    "near: {ra: 36, dec: 1, radius: true}": "near.radius of product p: expected an angle such as "
    "1.5deg, 30arcmin or a",
    "near: {ra: 36, dec: 1, radius: -1}": "near.radius of product p: expected a radius from 0 to 180 "
    "degrees, got -1",
    "near: {ra: 36, dec: 1, radius: .inf}": "near.radius of product p: expected a radius from 0 to 180 "
    "degrees, got inf",
    "near: {ra: 36, radius: 1}": "missing setting 'mirror.products.select.near.dec' of product p",
    "near: {ra: 36, dec: 1, radius: 1, unit: deg}": "unknown setting 'mirror.products.select.near.unit' "
    "of product p; expected one of ra, dec, radius",
    "near: MD01": "near of product p: expected settings of its own",
    "clean: never": "clean of product p: expected true or false",
    "unknown: 0": "unknown of product p: expected true or false",
    "skycell: []": "skycell of product p: expected a shell pattern or a list of them",
}


@pytest.mark.parametrize("condition", NO_CONE)
def test_what_is_no_condition_on_the_sky(condition, file):
    said = refusal(file, mirror=f"products: [{{name: p, select: {{{condition}}}}}]")
    assert said.startswith(", line 6: ")
    assert NO_CONE[condition] in said


def test_the_line_is_that_of_the_innermost_key(file):
    lines = COMPLETE.splitlines()
    for number, line in enumerate(lines, start=1):
        key = line.strip().removeprefix("- ").partition(":")[0]
        if line.endswith((":", "-200907", "]")) or key in {"filter", "target_id", "on_removed", "volumes"}:
            continue
        wrong = [*lines[: number - 1], line.partition(":")[0] + ": {}", *lines[number:]]
        with pytest.raises(SettingsError, match=f"mirror.yaml, line {number}: .*{key}"):
            read(file, "\n".join(wrong))


def test_everything_that_is_wrong(file):
    with pytest.raises(SettingsError) as raised:
        read(file, "source:\n  atempts: 1\n  b: 2\n  url: http://h\nmirror:\n  rot: x\n  min_free: much\n")
    assert str(raised.value) == (
        f"{file}: 5 settings are wrong. Nothing was started.\n"
        f"  line 2: unknown setting 'source.atempts'. Did you mean 'attempts'?\n"
        f"  line 3: unknown setting 'source.b'; expected one of {', '.join(Source.model_fields)}\n"
        "  line 5: missing setting 'mirror.root'\n"
        "  line 6: unknown setting 'mirror.rot'. Did you mean 'root'?\n"
        "  line 7: mirror.min_free: expected a size such as 20 GB, from 0 to 10^18 bytes, got 'much'"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "",
            "expected the sections 'source' and 'mirror', got nothing. Nothing was started; `ipp-mirror "
            "init`",
        ),
        ("- a\n", "expected the sections 'source' and 'mirror', got a list. "),
        ("text\n", "expected the sections 'source' and 'mirror', got text. "),
        ("source: {url: http://h}\n", "line 1: missing setting 'mirror'"),
        ("mirror: {root: r}\nsource:\n", "line 2: source: expected settings of its own"),
        ("source: {}\nmirror: {root: r}\n", "line 1: missing setting 'source.url'"),
        (
            "a: [",
            "line 1, column 5: expected a value and the end of the list or settings in brackets, "
            "got the end of the file. ",
        ),
        (
            "a: ]",
            "line 1, column 4: expected a value, got ']'. Put a value that begins with it in quotation ",
        ),
        ("a: |x", "line 1, column 5: expected the end of the line behind | or >, got 'x'. "),
        ("[" * 5000, "expected YAML, got one nested too deep. Nothing was started."),
        ("a: b: c\n", "line 1, column 5"),
        ("a:\n\t- b\n", "line 2, column 1"),
        (
            "x: 1\na: 2009-13-45\n",
            "expected a date or a time, got '2009-13-45': month must be in 1..12. Put it in quotation "
            "marks if",
        ),
        ("x: 1\na: 2009-13-45\n", "line 2, column 4"),
        ("a: 0x_\n", "line 1, column 4"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: expected one document, got a second one behind '---'. "),
        ("a: !!python/object/apply:os.system [true]\n", "column 4: expected a value, got !: "),
        ("a: !!int x\n", "line 1, column 4: expected a number, got text behind a tag. "),
        ("{? [a] : b}\n", "line 1, column 4: expected the name of a setting, got a sequence"),
        ("{? {a: b} : b}\n", "line 1, column 4: expected the name of a setting, got a mapping"),
        (f"a: 0x{'f' * 6000}\n", "line 1, column 4: expected a number, got '0xfff"),
        (f"a: {'9' * 6000}\n", "a number has at most 100 digits"),
        ('a: "\\UFFFFFFFF"\n', "expected YAML, got a number in an escape or a directive that is too large"),
        (f"%YAML {'9' * 6000}.1\n--- a\n", "expected YAML, got a number in an escape or a directive"),
        ("a: &a [*a]\n", "expected at most 100000 values, got more, counting what stands behind each alias"),
        (
            "\n".join(
                [f"a0: &a0 {'x' * 10}", *(f"a{n}: &a{n} [{f'*a{n - 1},' * 10}]" for n in range(1, 10))]
            ),
            "expected at most 100000 values, got more, counting what stands behind each alias",
        ),
    ],
)
def test_what_is_no_settings_file(text, said, file):
    with pytest.raises(SettingsError) as raised:
        read(file, text)
    assert said in str(raised.value)
    assert str(raised.value).startswith(str(file))


def test_a_file_that_cannot_be_read(file, tmp_path):
    with pytest.raises(SettingsError, match="got: No such file or directory"):
        read_settings(file)
    with pytest.raises(SettingsError, match="got: Is a directory"):
        read_settings(tmp_path)
    file.parent.mkdir()
    file.write_bytes(b"source:\n  url: http://h/d\xe9\n")
    with pytest.raises(SettingsError, match=r"line 2: expected text in UTF-8, got the byte 0xe9\. Save"):
        read_settings(file)


@pytest.mark.parametrize(
    "url",
    ["http://h", "https://h:8443/ipp049/ds/", "http://[::1]:80/ds", "http://h//", "http://h/ds/index.txt"],
)
def test_addresses(url, file):
    text = f"source: {{url: '{url}'}}\nmirror: {{root: r}}"
    assert read(file, text).source.url == url.rstrip("/").removesuffix("/index.txt")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h/ds",
        "ftp://h/",
        "http://",
        "http:///ds",
        "http://h/?q",
        "http://h/#f",
        "http://h/ d",
        r"http://h\\@other/",
        r"http://h/\\d",
        "http://:80/",
        "http://h:99999/",
        "http://h:0/",
        "http://h:port/",
        "http://[bad/",
        "HTTP://h/",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_address(url, file):
    with pytest.raises(
        SettingsError,
        match=r"line 1: source\.url: expected the http or https address of .*, got ",
    ):
        read(file, f"source: {{url: '{url}'}}\nmirror: {{root: r}}")


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_no_file_raises_anything_but_a_settings_error(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    content = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    for written in (content, b"source:\n  url: http://h\n  timeout: " + content + b"\nmirror: {root: r}\n"):
        file.write_bytes(written)
        try:
            read_settings(file)
        except SettingsError as error:
            assert str(error).startswith(str(file))


YAML = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [("source", key) for key in Source.model_fields] + [("mirror", key) for key in Mirror.model_fields]
)


@given(KEYS, YAML)
def test_no_value_raises_anything_but_a_settings_error(tmp_path_factory, key, value):
    section, name = key
    settings = {"source": {"url": "http://h"}, "mirror": {"root": "r"}}
    settings[section][name] = value
    file = tmp_path_factory.getbasetemp() / "value.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    try:
        read_settings(file)
    except SettingsError as error:
        assert f"{section}.{name}" in str(error) or "expected YAML" in str(error)


def test_a_name_that_stands_twice(file):
    said = refusal(file, source="url: http://other/ds")
    assert "'url'" in said
    assert "twice" in said
    assert "line 3" in said


def test_a_password_in_the_address_is_refused_and_not_repeated(file):
    with pytest.raises(SettingsError) as raised:
        read(file, "source: {url: 'http://me:secret@h/ds'}\nmirror: {root: r}\n")
    assert "netrc" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("sqlite:///a/b.sqlite", "sqlite:///{folder}/a/b.sqlite"),
        ("sqlite:////a/b.sqlite", "sqlite:////a/b.sqlite"),
        ("sqlite://///a/b.sqlite?timeout=5", "sqlite:////a/b.sqlite?timeout=5"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("mysql://u@h/d?x=1", "mysql://u@h/d?x=1"),
        ("oracle://u:secret@h/d", None),
        ("sqlite://", None),
        ("sqlite:///?timeout=5", None),
        ("sqlite:///./?timeout=5", None),
        ("sqlite:////", None),
        ("here", None),
    ],
)
def test_the_address_of_the_catalog(url, read, tmp_path):
    path = tmp_path / "mirror.yaml"
    path.write_text(f"source: {{url: 'http://h/ds'}}\nmirror: {{root: m}}\ncatalog: {{url: '{url}'}}\n")
    if read:
        assert read_settings(path).catalog.url == read.format(folder=tmp_path)
        return
    with pytest.raises(SettingsError, match=r"line 3: catalog\.url: expected sqlite:///PATH, ") as raised:
        read_settings(path)
    assert "secret" not in str(raised.value)


NOTIFIED = ["mailto://u:p@h?to=a@b", "slack://A/B/C", "env:SLACK", "file:/etc/urls", "file:urls"]


def test_what_is_notified(file):
    lines = "\n".join(f"    - {json.dumps(url)}" for url in NOTIFIED)
    notify = f"notify:\n  urls:\n{lines}\n  on_run: run --x 'a b'\n"
    settings = read(file, f"source:\n  url: http://h/ds\nmirror:\n  root: r\n{notify}").notify
    assert (settings.urls, settings.on_complete, settings.on_run) == (NOTIFIED, None, "run --x 'a b'")
    assert settings.is_enabled
    assert "u:p" not in settings.model_dump_json()
    assert not settings_with(file).notify.is_enabled


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("urls: mailto://u:secret@h", "notify.urls: expected a list of addresses of Apprise"),
        ("urls: [{mailto: secret}]", "notify.urls: expected a list of addresses of Apprise"),
        ("urls: [secret]", "notify.urls: expected a list of addresses of Apprise"),
        ("urls: ['env:']", "notify.urls: expected a list of addresses of Apprise"),
        ("on_run: [a, b]", "notify.on_run: expected a command with its arguments, as text"),
        ("on_complete: ''", "notify.on_complete: expected a command with its arguments, as text"),
        (
            "on_complete: a 'b",
            "notify.on_complete: expected a command with its arguments, got one with no",
        ),
    ],
)
def test_what_is_not_notified(line, said, file):
    with pytest.raises(SettingsError) as raised:
        read(file, f"source:\n  url: http://h/ds\nmirror:\n  root: r\nnotify:\n  {line}\n")
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)
