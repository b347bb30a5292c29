"""``ipp-mirror init``, and the settings file that commands find without ``--config``."""

from pathlib import Path

import click
import pytest
from support.command import ipp_mirror
from support.upstream import File, Upstream

from pipeline.config import read_settings
from pipeline.errors import ServerUnavailable, SettingsError
from pipeline.sample.simulator import simulate
from tasks.commands import ipp_mirror as ipp_mirror_group

NOBODY = "http://127.0.0.1:1/ds"
OF_URL = "expected the http or https address of a Data Store, without '?' or '#'"


def init(*arguments: object) -> None:
    """Run the command in this process."""
    ipp_mirror_group.main(["init", *map(str, arguments)], standalone_mode=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "site.yaml"


@pytest.fixture
def filled(upstream: Upstream) -> Upstream:
    for product in ("first", "second", "secret"):
        upstream.add(product, f"{product}.1", [File("a.fits", b"a")])
    return upstream


def test_the_file_has_what_was_named_and_what_the_server_says(filled: Upstream, config: Path, tmp_path: Path):
    root = tmp_path / "MIRROR"
    with simulate(filled.folder, hidden=["secret"]) as server:
        made = ipp_mirror(
            "init", server.url, "--root", root, "--products", "first,secret", "--config", config
        )
        assert (made.returncode, made.stderr) == (0, "")
        assert "with 1 of 2 listed products and 1 hidden" in made.stdout
        assert "    # test (ipp-dist), newest second.1 of" in config.read_text()
    read = read_settings(config)
    assert (read.source.url, read.source.hidden_products) == (server.url, ["secret"])
    assert (read.mirror.root, [each.name for each in read.mirror.products]) == (root, ["first", "secret"])


def test_all_listed_products_are_the_default(filled: Upstream, config: Path):
    with simulate(filled.folder, hidden=["secret"]) as server:
        init(server.url, "--config", config)
    assert [product.name for product in read_settings(config).mirror.products] == ["first", "second"]


def test_a_product_that_is_not_served_is_one_sentence(filled: Upstream, config: Path):
    expected = (
        "^expected products that the Data Store serves, got 'third': .* It lists first, second, secret. No s"
    )
    with simulate(filled.folder) as server, pytest.raises(SettingsError, match=expected):
        init(server.url, "--config", config, "--products", "first,third")
    assert not config.exists()


def test_an_address_without_a_data_store_is_corrected_in_the_command(filled: Upstream, config: Path):
    with simulate(filled.folder) as server, pytest.raises(ServerUnavailable) as refused:
        init(f"{server.url}x", "--config", config)
    assert str(refused.value) == (
        f"{server.url}x/index.txt: expected a listing, got 404 Not Found. No settings were written: correct "
        "the address, or write them without the list of products by --offline."
    )


def test_a_server_that_cannot_be_reached(config: Path):
    with pytest.raises(ServerUnavailable) as refused:
        init(NOBODY, "--config", config)
    assert str(refused.value) == (
        f"{NOBODY}/index.txt: connection refused by 127.0.0.1:1. No settings were written: "
        "correct the address, or write them without the list of products by --offline."
    )
    assert not config.exists()
    init(NOBODY, "--config", config, "--offline", "--products", "p")
    assert [product.name for product in read_settings(config).mirror.products] == ["p"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["ftp://host/ds"], f"URL: {OF_URL}, got 'ftp://host/ds'"),
        (["host/ds"], f"URL: {OF_URL}, got 'host/ds'"),
        ([""], f"URL: {OF_URL}, got ''"),
        (["ftp://me:secret@host"], f"URL: {OF_URL}, got text"),
        (
            ["http://me:secret@host/ds"],
            "URL: expected no user name and password, which belong in ~/.netrc, got some",
        ),
        (
            [NOBODY, "--root", "/"],
            "--root: expected a folder for the mirror alone, got the root of the file system",
        ),
        (
            [NOBODY, "--root", "/a#b"],
            "--root: expected a path without '#' and control characters, got '/a#b'",
        ),
        ([NOBODY, "--products", "a,../p"], "--products: product name: expected letters, digits"),
        ([NOBODY, "--products", ","], "--products: expected names of products, such as A,B, got ','"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_asked(arguments, problem, config: Path):
    with pytest.raises(click.BadParameter) as refused:
        init(*arguments, "--config", config)
    named, _, said = problem.partition(": ")
    assert f"Invalid value for '{named}': {said}" in refused.value.format_message()
    assert not config.exists()


def test_a_file_at_the_root_is_one_sentence(config: Path):
    with pytest.raises(
        SettingsError, match=r"^--root: expected the path of a folder, got the file /.*No set"
    ):
        init(NOBODY, "--root", __file__, "--config", config)
    assert not config.exists()


def test_a_file_that_is_there_is_left_as_it_is(config: Path):
    config.write_text("mine")
    with pytest.raises(SettingsError) as refused:
        init(NOBODY, "--config", config)
    assert str(refused.value) == (
        f"{config}: expected no settings file here yet, got one. It is left as it is; move it away, or name "
        "another with --config FILE."
    )
    assert config.read_text() == "mine"


def test_a_file_that_cannot_be_written_is_one_sentence(config: Path, tmp_path: Path):
    long = tmp_path / ("x" * 300)
    for option in ("--config", "--root"):
        said = (
            rf"^{option}: expected a path on this machine, got {long}: File name too long\. No settings were "
        )
        with pytest.raises(SettingsError, match=said):
            init(NOBODY, option, long, "--offline")
    config.symlink_to(tmp_path / "absent")
    for path, problem in (
        (config, "File exists"),
        (tmp_path / "no" / "site.yaml", "No such file or directory"),
    ):
        with pytest.raises(SettingsError, match=f"^{path}: cannot write the settings file: {problem}"):
            init(NOBODY, "--config", path, "--offline")


def test_the_option_comes_before_the_variable_and_the_variable_before_luigi_cfg(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    luigi = tmp_path / "luigi.cfg"
    luigi.write_text(f"[mirror]\nconfig={tmp_path}/of-luigi.yaml\n")
    monkeypatch.setenv("LUIGI_CONFIG_PATH", str(luigi))
    monkeypatch.setenv("IPP_MIRROR_CONFIG", f"{tmp_path}/of-variable.yaml")
    for option, named in (([], tmp_path / "of-variable.yaml"), (["--config", str(config)], config)):
        with pytest.raises(SettingsError, match=f"^{named}: expected a settings file"):
            ipp_mirror_group.main(["status", *option], standalone_mode=False)
