"""``ipp-mirror init``, and the settings file that commands find without ``--config``."""

from pathlib import Path

import pytest
from support.command import ipp_mirror
from support.upstream import File, Upstream

from pipeline.config import read_settings
from pipeline.sample.simulator import simulate

NOBODY = "http://127.0.0.1:1/ds"


@pytest.fixture
def filled(upstream: Upstream) -> Upstream:
    for product in ("first", "second", "secret"):
        upstream.add(product, f"{product}.1", [File("a.fits", b"a")])
    return upstream


def test_the_file_is_one_that_an_update_accepts_and_is_found_by_the_variable(
    filled: Upstream, tmp_path: Path
):
    config, root = tmp_path / "site.yaml", tmp_path / "MIRROR"
    found = {"IPP_MIRROR_CONFIG": str(config)}
    with simulate(filled.folder, hidden=["secret"]) as server:
        made = ipp_mirror("init", server.url, "--root", root, "--products", "first,secret", environment=found)
        assert (made.returncode, made.stderr) == (0, "")
        assert "with 1 of 2 listed products and 1 hidden" in made.stdout
        assert "    # test (ipp-dist), newest second.1 of" in config.read_text()
        updated = ipp_mirror("update", environment=found)
        assert updated.returncode == 0, updated.stderr
    assert sorted(path.name for path in (root / "store").glob("*/*")) == ["first.1", "secret.1"]


def test_all_listed_products_are_the_default(filled: Upstream, tmp_path: Path):
    config = tmp_path / "site.yaml"
    with simulate(filled.folder, hidden=["secret"]) as server:
        assert ipp_mirror("init", server.url, "--config", config).returncode == 0
    assert [product.name for product in read_settings(config).mirror.products] == ["first", "second"]


def test_a_product_that_is_not_served_is_one_sentence(filled: Upstream, tmp_path: Path):
    config = tmp_path / "site.yaml"
    with simulate(filled.folder) as server:
        refused = ipp_mirror("init", server.url, "--config", config, "--products", "first,third")
    assert refused.returncode == 40
    assert "expected products that the Data Store serves, got 'third': " in refused.stderr
    assert refused.stderr.endswith("It lists first, second, secret. No settings were written.\n")
    assert not config.exists()


def test_a_server_that_cannot_be_reached(tmp_path: Path):
    config = tmp_path / "site.yaml"
    refused = ipp_mirror("init", NOBODY, "--config", config)
    assert refused.returncode == 20
    assert refused.stderr == (
        f"ipp-mirror: {NOBODY}/index.txt: connection refused by 127.0.0.1:1. No settings were written: "
        "correct the address, or write them without the list of products by --offline.\n"
    )
    assert not config.exists()
    made = ipp_mirror("init", NOBODY, "--config", config, "--offline", "--products", "p")
    assert made.returncode == 0
    assert [product.name for product in read_settings(config).mirror.products] == ["p"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["ftp://host/ds"], "source.url: expected the http or https address of a Data Store"),
        ([NOBODY, "--root", "/"], "mirror.root: expected a folder for the mirror alone"),
        ([NOBODY, "--products", "../p"], "mirror.products.0.name: product name: expected letters, digits"),
    ],
)
def test_a_wrong_value_is_one_sentence_before_anything_is_asked(arguments, problem, tmp_path: Path):
    config = tmp_path / "site.yaml"
    refused = ipp_mirror("init", *arguments, "--config", config)
    assert (refused.returncode, refused.stdout) == (40, "")
    assert problem in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not config.exists()


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path):
    config = tmp_path / "site.yaml"
    config.write_text("mine")
    refused = ipp_mirror("init", NOBODY, "--config", config)
    assert refused.returncode == 40
    assert refused.stderr == (
        f"ipp-mirror: {config}: expected no settings file here yet, got one. It is left as it is; move it "
        "away, or name another with --config FILE.\n"
    )
    assert config.read_text() == "mine"


def test_the_variable_comes_before_luigi_cfg(tmp_path: Path):
    luigi = tmp_path / "luigi.cfg"
    luigi.write_text(f"[mirror]\nconfig={tmp_path}/of-luigi.yaml\n")
    environment = {"LUIGI_CONFIG_PATH": str(luigi), "IPP_MIRROR_CONFIG": f"{tmp_path}/of-variable.yaml"}
    refused = ipp_mirror("status", environment=environment)
    assert refused.stderr.startswith(f"ipp-mirror: {tmp_path}/of-variable.yaml: expected a settings file")
