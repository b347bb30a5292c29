"""The recipes of the guide, one after the other on one mirror: their commands are taken from its text."""

import grp
import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from support.command import REPOSITORY, ipp_mirror
from support.running import free_port
from support.trees import tree
from support.upstream import File, Upstream

from pipeline.config import read_settings
from pipeline.sample.simulator import simulate
from tasks.commands import ipp_mirror as ipp_mirror_group

GUIDE = (REPOSITORY / "docs" / "guide.md").read_text()
PRODUCT = "md-all-rel-200907"


class Site:
    """A folder with the settings, in which the commands of the guide are run with other paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "mirror.yaml"
        self.paths = {
            "/panstarrs/data": folder / "disk",
            "/new/MIRROR": folder / "new",
            "/backup": folder / "backup",
            "/disk2": folder / "disk2",
            "/disk3": folder / "disk3",
            " mirror.yaml": f" {self.config}",
            " .mirror.yaml.id": f" {folder}/.mirror.yaml.id",
            "mirror-backup.tgz": folder / "mirror-backup.tgz",
            "astronomers": grp.getgrgid(os.getgid()).gr_name,
        }
        self.ran: set[str] = set()
        self.umask = ""
        self.no_scheduler = free_port()

    @property
    def root(self) -> Path:
        return read_settings(self.config).mirror.root

    def follow(self, recipe: str) -> list[str]:
        """Run the commands of all blocks of a recipe; return the output of each. All must end with 0."""
        self.ran.add(recipe)
        return [self._run(command) for command in commands_of(recipe)]

    def _run(self, command: str) -> str:
        for written, path in self.paths.items():
            command = command.replace(written, str(path))
        if command.startswith(("ipp-mirror update", "ipp-mirror verify")):
            # Not the scheduler of somebody who works on this machine.
            command += f" --scheduler-port {self.no_scheduler}"
        if not command.startswith("ipp-mirror ") or self.umask:
            return self._run_in_shell(command)
        arguments = [*shlex.split(command)[1:], "--config", str(self.config)]
        if arguments[0] in {"init", "plan", "status", "pause", "resume"}:
            asked = CliRunner().invoke(ipp_mirror_group, arguments)
            assert asked.exit_code == 0, (command, asked.output, asked.exception)
            if arguments[0] == "init":
                # Each update would wait for the map of the sky and for the page.
                text = re.sub("(coverage|page): true", r"\1: false", self.config.read_text())
                self.config.write_text(text)
            return asked.output
        ended = ipp_mirror(*arguments)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        return ended.stdout

    def _run_in_shell(self, command: str) -> str:
        if command.startswith("umask "):
            self.umask = f"{command} && "
            return ""
        bin_folder = REPOSITORY / ".venv" / "bin"
        environment = os.environ | {"IPP_MIRROR_CONFIG": str(self.config)}
        environment["PATH"] = f"{bin_folder}:{environment['PATH']}"
        shell = ["bash", "-c", f"{self.umask}{command}"]
        ended = subprocess.run(
            shell, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        return ended.stdout


def commands_of(recipe: str) -> list[str]:
    text = GUIDE.partition(f"\n### {recipe}\n")[2]
    section = re.split(r"\n###? ", text)[0]
    blocks = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    commands = [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]
    assert commands, recipe
    return commands


def register(upstream: Upstream, name: str) -> None:
    upstream.add_bundles(PRODUCT, name, {"XY01": {f"{name}.fits": name.encode() * 99}}, filter="r")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_each_recipe_does_what_it_says(upstream: Upstream, tmp_path: Path):
    for name in ("one", "two"):
        register(upstream, name)
    upstream.add("other", "other.1", [File("a.txt", b"a")], type="table")
    site = Site(tmp_path)
    with simulate(upstream.folder) as server:
        site.paths["http://alala2.ifa.hawaii.edu/ipp049/ds"] = server.url
        _, planned, _, status = site.follow("First fill of a big mirror")
        assert "in 3 filesets" in planned
        assert "running: nothing" in status
        assert set(tree(site.root / "store")) == {
            f"{PRODUCT}/{name}/{file}"
            for name in ("one", "two")
            for file in ("index.txt", f"dirinfo.{name}.mdc", f"{name}.XY01.tgz")
        }
        planned, updated = site.follow("Changing the selection")
        assert "in 1 fileset" in planned
        assert "1 extracted" in updated
        before = tree(site.root / "data") | tree(site.root / "info")
        requests = len(server.requests)
        assert "; nothing fetched in " in site.follow("Backup")[-1]
        assert not [each for each in server.requests[requests:] if each.target.endswith(".tgz")]
        assert tree(site.root / "data") | tree(site.root / "info") == before
    with simulate(upstream.folder) as server:
        site.paths["http://data.example.org/ds"] = server.url
        register(upstream, "three")
        _, planned, updated, compared = site.follow("Upstream has moved")
        assert "in 1 fileset" in planned
        assert "1 extracted" in updated
        assert "4 here, compared with upstream: 4 the same there" in compared
        store = tree(site.root / "store")
        shutil.copytree(site.root / "store", tmp_path / "backup" / "store")
        *_, verified, _ = site.follow("Moving a mirror")
        assert "4 here: 4 sound" in verified
        assert site.root == tmp_path / "new"
        assert not (tmp_path / "disk" / "MIRROR").exists()
        assert tree(site.root / "store") == store
        assert str(site.root).encode() in tree(site.root / "info")[f"{PRODUCT}/one/dirinfo.one.mdc"]
        shutil.rmtree(site.root)
        requests = len(server.requests)
        site.follow("Replacing a disk")
        assert not [each for each in server.requests[requests:] if each.target.endswith(".tgz")]
        assert tree(site.root / "store") == store
        site.paths["/panstarrs/data/MIRROR"] = site.root
        site.paths.pop("/panstarrs/data")
        register(upstream, "four")
        site.follow("Users and umask")
        modes = {stat.S_IMODE(path.stat().st_mode) & 0o777 for path in site.root.rglob("*")}
        assert {mode & 0o027 for mode in modes} <= {0o000, 0o040, 0o050}, sorted(map(oct, modes))
        site.umask = ""
        store, data = tree(site.root / "store" / PRODUCT), tree(site.root / "data")
        requests = len(server.requests)
        site.follow("A product on a disk of its own")
        placed = tmp_path / "disk2" / "ps1" / PRODUCT
        assert (tree(placed / "store"), tree(placed / "data"), tree(site.root / "data")) == (store, data, {})
        site.follow("Another disk for a product")
        placed = tmp_path / "disk3" / "ps1" / PRODUCT
        assert (tree(placed / "store"), tree(placed / "data")) == (store, data)
        assert (site.root / "store" / PRODUCT).samefile(placed / "store")
        site.follow("A product back on the disk of the mirror")
        assert not (site.root / "volumes" / PRODUCT).is_symlink()
        assert not (site.root / "store" / PRODUCT).is_symlink()
        assert (tree(site.root / "store" / PRODUCT), tree(site.root / "data")) == (store, data)
        assert not [each for each in server.requests[requests:] if "index.txt" not in each.target]
        verified = ipp_mirror("verify", "--config", site.config, "--scheduler-port", str(site.no_scheduler))
        assert verified.returncode == 0, verified.stderr
    assert site.ran | {"Upgrade"} == set(
        re.findall(r"^### (.*)$", GUIDE.partition("\n## Recipes\n")[2], re.M)
    )


def test_the_example_of_catalogues_gets_those_of_exposures_and_of_sky_cells(upstream: Upstream, follower):
    bundles = {
        "camera": {"exposure": {"a.smf": b"exposure", "a.mdc": b"dump METADATA\nEND\n"}},
        "stack": {"skycell.1566.004": {"b.cmf": b"sky cell", "b.fits": b"F" * 9000}},
        "chip": {"XY01": {"c.cmf": b"chip"}},
    }
    for stage, held in bundles.items():
        upstream.add_bundles(PRODUCT, f"o1.{stage}.1", held, stage=stage)
    example = GUIDE.partition("**Parts of filesets.**")[2].partition("```yaml\n")[2].partition("```")[0]
    follower.mirror["products"] = yaml.safe_load(example)
    assert follower.update().code == 0
    assert set(follower.content("data").values()) == {b"exposure", b"sky cell"}
