"""Adoption of a mirror made by update_mirror.py: what is there is not fetched, and nothing of it is lost."""

import json
import os
import shutil
import sys
from pathlib import Path
from threading import Event
from urllib.parse import quote

import pytest
from support.command import Ended, ended
from support.disk_model import read_calls
from support.follower import Follower
from support.running import gate, leftovers, requested_filesets, started, tree_is_true, until
from support.summary_line import numbers
from support.trees import tree
from support.upstream import File, Upstream, served_filesets

from pipeline.mirror.state.layout import short_digest

PRODUCT = "md-all-rel-200907"
OTHER = "threepi-all-200908"
CHIP = "o1.chip.1.1.1"
BUNDLE = f"{CHIP}.XY01.tgz"
MEMBERS = {"a.fits": b"A" * 5000, "b.fits": b"B" * 10}
DATA = {f"gpc1/MD01/o1.XY01/{name}": content for name, content in MEMBERS.items()}
WAYS = ["link", "rename", "copy"]
# What else that program leaves in its folder.
BESIDE = {
    "product_status.csv": b"product,time\n",
    "update_mirror_leftover_work.pkl": b"\x80",
    "MD01/a.fits": b"A",
}

NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    upstream.add_bundles(PRODUCT, CHIP, {"XY01": MEMBERS})
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70), File("u.fits", b"U" * 7)], type="table")
    upstream.add(OTHER, "table", [File("v.fits", b"V" * 700_000)], type="table")
    return upstream


@pytest.fixture
def old(release: Upstream, tmp_path: Path) -> Path:
    """The folder of the old mirror, of all that is registered."""
    folder = tmp_path / "MIRROR"
    for path, content in (served_filesets(release) | BESIDE).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def command(follower: Follower, folder: Path, *more: str) -> list[str]:
    settings = ["--config", str(follower.config)]
    return [sys.executable, "-m", "tasks", "adopt", *settings, str(folder), *more]


def adopt(follower: Follower, folder: Path, *more: str) -> Ended:
    result = ended(command(follower, folder, *more))
    assert "Traceback" not in result.output
    return result


def fetched(server) -> list[str]:
    """The files that were asked for, without listings."""
    targets = [request.target.removeprefix("/ds/") for request in server.requests]
    return sorted(target for target in targets if "index.txt" not in target)


def complete(follower: Follower, release: Upstream) -> None:
    """The mirror is as after an update."""
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == DATA
    assert leftovers(follower.root) == []
    for product, filesets in release.products.items():
        assert follower.marked("failed", product) == set()
        tree_is_true(follower.root, product, set(filesets))


def finds_nothing_to_do(follower: Follower) -> None:
    """The next update has nothing to do, and a verification finds no problem."""
    update = follower.update()
    assert update.code == 0, update.output
    assert numbers() in update.output
    verified = ended([sys.executable, "-m", "tasks", "verify", "--config", str(follower.config)])
    assert verified.code == 0, verified.output


def listed(folder: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in folder.items() if not path.endswith("index.txt")}


def inodes(folder: Path) -> dict[str, int]:
    return {path: (folder / path).stat().st_ino for path in listed(tree(folder))}


@pytest.mark.parametrize("by", WAYS)
def test_all_that_is_there_is_taken_over_and_nothing_fetched(by, release, old, server, follower):
    before, files = tree(old), inodes(old)
    result = adopt(follower, old, "--by", by)
    assert result.code == 0, result.output
    assert fetched(server) == []
    assert numbers(3, 3, 3) + "; 5 files (" in result.output
    assert " adopted, 0 others left; nothing fetched" in result.output
    assert (
        f"adopting {old} by {by}: products {PRODUCT}, {OTHER}; left there: MD01, product_status.csv"
        in result.output
    )
    left = {
        path: content
        for path, content in before.items()
        if by != "rename" or path not in files or path in BESIDE
    }
    assert tree(old) == left
    stored = inodes(follower.root / "store")
    same = {path for path, inode in stored.items() if files[path] == inode}
    assert same == (set() if by == "copy" else set(stored))
    complete(follower, release)
    server.clear()
    finds_nothing_to_do(follower)
    assert fetched(server) == []
    again = adopt(follower, old, "--by", by)
    assert again.code == 0, again.output
    assert f"product {PRODUCT}: 0 filesets to take over, 2 complete before\n" in again.output
    assert tree(old) == left


def test_what_was_linked_is_renamed_later(release, old, server, follower):
    assert adopt(follower, old).code == 0
    result = adopt(follower, old, "--by", "rename")
    assert result.code == 0, result.output
    assert f"product {PRODUCT}: 4 old names of complete filesets removed" in result.output
    assert set(listed(tree(old))) == set(BESIDE)
    complete(follower, release)
    assert fetched(server) == []


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def made_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


WRONG = {
    "a flipped byte": (lambda path: path.write_bytes(b"T" * 69 + b"t"), "expected md5 "),
    "too short": (lambda path: path.write_bytes(b"T" * 69), "expected 70 bytes as listed, it has 69"),
    "too long": (lambda path: path.write_bytes(b"T" * 71), "expected 70 bytes as listed, it has 71"),
    "empty": (lambda path: path.write_bytes(b""), "expected 70 bytes as listed, it has 0"),
    "a symbolic link": (linked, "a symbolic link, which is not followed"),
    "a folder": (made_a_folder, "expected a regular file"),
    "a pipe": (made_a_pipe, "expected a regular file"),
    "absent": (Path.unlink, ""),
    "of unknown md5": (
        lambda path: path.write_bytes(b"t" * 70),
        "no md5 is listed that it could be compared with",
    ),
}


def described(folder: Path) -> dict[str, object]:
    """All that is in the folder: kinds of files, targets of links, contents."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None,
        )
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("by", WAYS)
def test_only_files_that_are_not_as_listed_are_fetched(by, release, old, server, follower):
    for name in WRONG:
        listed_as = {"md5": ""} if name == "of unknown md5" else {}
        files = [File("t.fits", b"T" * 70, listed=listed_as), File("u.fits", b"U" * 7)]
        release.add(PRODUCT, name, files, type="table")
        shutil.copytree(release.folder / PRODUCT / name, old / PRODUCT / name)
        WRONG[name][0](old / PRODUCT / name / "t.fits")
    before = described(old)
    result = adopt(follower, old, "--by", by)
    assert result.code == 0, result.output
    assert fetched(server) == sorted(f"{PRODUCT}/{quote(name)}/t.fits" for name in WRONG)
    for name, (_, reason) in WRONG.items():
        said = f"left: {old}/{PRODUCT}/{name}/t.fits: {reason}"
        assert (said in result.output) == bool(reason), name
    after = described(old)
    assert {path: before[path] for path in after} == after
    gone = {f"{PRODUCT}/{name}/u.fits" for name in WRONG} | set(listed(served_filesets(release)))
    gone -= {f"{PRODUCT}/{name}/t.fits" for name in WRONG}
    assert before.keys() - after.keys() == (gone if by == "rename" else set())
    assert follower.content("store") == served_filesets(release)
    finds_nothing_to_do(follower)


@NEEDS_STRACE
@pytest.mark.parametrize("by", ["link", "copy"])
def test_a_file_on_a_bad_block_is_fetched(by, release, old, server, follower, tmp_path):
    path = old / PRODUCT / "plain" / "t.fits"
    inject = ["-P", str(path), "-e", "trace=read", "-e", "inject=read:error=EIO"]
    result = ended(
        ["strace", "-f", "-o", str(tmp_path / "trace"), *inject, *command(follower, old, "--by", by)]
    )
    assert result.code == 0, result.output
    assert f"left: {path}: unreadable: Input/output error" in result.output
    assert fetched(server) == [f"{PRODUCT}/plain/t.fits"]
    assert path.read_bytes() == b"T" * 70
    complete(follower, release)


def without_root(command: list[str]) -> list[str]:
    """The command as a user to whom permissions apply."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed: root may read everything")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all", *command]


def owned_by_another(path: Path) -> None:
    if Path("/proc/sys/fs/protected_hardlinks").read_text() != "1\n":
        pytest.skip("this system lets everyone link every file")
    os.chown(path, 1234, 1234)


DENIALS = {
    "not readable": (lambda path: path.chmod(0), BUNDLE),
    "in a folder that is not readable": (lambda path: path.chmod(0), "."),
    "of another user": (owned_by_another, BUNDLE),
}


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("not readable", "rename"),
        ("in a folder that is not readable", "link"),
        ("of another user", "link"),
    ],
)
def test_a_file_without_permission_is_not_fetched_in_its_place(name, by, release, old, server, follower):
    deny, denied = DENIALS[name]
    path = old / PRODUCT / CHIP / denied
    deny(path)
    result = ended(without_root(command(follower, old, "--by", by)))
    assert result.code == 30, result.output
    assert f"fileset {PRODUCT}/{CHIP}: taking over {old}/{PRODUCT}/{CHIP}/" in result.output
    assert " denied. Give the user" in result.output or " not permitted. Give the user" in result.output
    assert "Traceback" not in result.output
    assert fetched(server) == []
    assert follower.marked("downloaded", PRODUCT) == {"plain"}
    os.chown(path, os.getuid(), os.getgid())
    path.chmod(0o755)
    assert (old / PRODUCT / CHIP / BUNDLE).exists()
    result = adopt(follower, old, "--by", by)
    assert result.code == 0, result.output
    assert fetched(server) == []
    complete(follower, release)


def test_what_belongs_to_no_fileset_that_is_wanted_is_left_and_named(release, old, server, follower):
    release.add(PRODUCT, "withdrawn", [File("x", b"x")])
    release.add(PRODUCT, "skipped", [File("x", b"x")])
    release.add(PRODUCT, "unselected", [File("x", b"x")], stage="warp")
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"stage": "chip"}}]
    assert follower.update().code == 0
    for name in ("withdrawn", "skipped", "unselected", "stranger", "sp\u00e4t\n"):
        (old / PRODUCT / name).mkdir()
        (old / PRODUCT / name / "x").write_bytes(b"x")
    release.withdraw(PRODUCT, "withdrawn")
    shutil.rmtree(follower.root)
    (follower.folder / ".mirror.yaml.id").unlink()
    assert follower.update("--products", PRODUCT).code == 0
    shutil.rmtree(follower.root / "store")
    shutil.rmtree(follower.root / "state" / PRODUCT / "downloaded")
    shutil.rmtree(follower.root / "state" / PRODUCT / "extracted")
    skip = [PRODUCT, "skipped", "--reason", "test", "--config", str(follower.config)]
    assert ended([sys.executable, "-m", "tasks", "skip", *skip]).code == 0
    (old / PRODUCT / "plain" / "notes").write_bytes(b"mine")
    (old / PRODUCT / "list.html").write_bytes(b"mine")
    before = tree(old)
    server.clear()
    result = adopt(follower, old, "--by", "rename")
    assert result.code == 0, result.output
    assert (
        f"product {PRODUCT}: 2 filesets to take over, 0 complete before; left there: "
        "3 filesets that no listing names ('sp\\xe4t\\n', stranger, withdrawn), 1 skipped (skipped), "
        "1 not selected (unselected), 1 that are no folders (list.html)\n"
    ) in result.output
    assert "4 files (" in result.output
    assert " adopted, 1 other left" in result.output
    assert f"left there: MD01, product_status.csv, {OTHER}, update" in result.output
    assert fetched(server) == []
    taken = listed(served_filesets(release, PRODUCT))
    kept = {path for path in before if path not in taken or "/x" in path}
    assert {path: tree(old)[path] for path in kept} == {path: before[path] for path in kept}


def test_withdrawn_filesets_are_deleted_by_updates_only(release, old, follower):
    follower.mirror |= {"on_removed": "delete", "delete_at_most": 1}
    for name in ("plain", "later"):
        release.add(PRODUCT, name, [File("x", b"x")])
    assert follower.update().code == 0
    release.withdraw(PRODUCT, "later")
    result = adopt(follower, old)
    assert result.code == 0, result.output
    assert (follower.root / "store" / PRODUCT / "later").exists()
    assert follower.update().code == 0
    assert not (follower.root / "store" / PRODUCT / "later").exists()


def test_a_fileset_that_waits_for_a_later_try_is_taken_over_at_once(release, old, server, follower):
    follower.mirror["retry_every_run"] = 1
    file = release.path(PRODUCT, "plain", "t.fits")
    file.unlink()
    assert follower.update().code == 30
    server.clear()
    result = adopt(follower, old)
    assert result.code == 0, result.output
    assert fetched(server) == []
    file.write_bytes(b"T" * 70)
    complete(follower, release)


def test_the_next_update_fetches_what_is_not_there(release, old, server, follower):
    shutil.rmtree(old / PRODUCT / CHIP)
    result = adopt(follower, old)
    assert result.code == 0, result.output
    assert f"product {PRODUCT}: not there: 1 fileset; `ipp-mirror update` fetches them\n" in result.output
    assert fetched(server) == []
    status = (follower.root / "status" / "product_status.csv").read_text()
    assert "never" in status
    assert "1 extracted" in follower.update().output
    complete(follower, release)


# A system call, the path below the root or the OLD folder, and the ways in which it happens.
IN_INCOMING = f"incoming/{PRODUCT}/{CHIP}/files"
COPIED = f"incoming/{PRODUCT}/{CHIP}/partial/{short_digest(BUNDLE)}.copy"
MARKED = f"state/{PRODUCT}/downloaded"
INSTANTS = {
    "before a file has its second name": ("linkat", f"{IN_INCOMING}/{BUNDLE}", ("link",)),
    "before the copy of a file has its name": ("rename", COPIED, ("copy",)),
    "before the fileset is published": ("rename", IN_INCOMING, WAYS),
    "before the marker is safe": ("fsync", MARKED, ("rename",)),
    "before the first old name goes": ("unlink", f"OLD/{PRODUCT}/{CHIP}/dirinfo.{CHIP}.mdc", ("rename",)),
    "before the second old name goes": ("unlink", f"OLD/{PRODUCT}/{CHIP}/{BUNDLE}", ("rename",)),
    "before the extraction is marked": ("fsync", f"state/{PRODUCT}/extracted", ("rename",)),
}


def somewhere(old: Path, follower: Follower) -> set[bytes]:
    """The contents of all files in the old folder and in ``store/``."""
    return {*tree(old).values(), *tree(follower.root / "store").values()}


@pytest.mark.long
@NEEDS_STRACE
@pytest.mark.parametrize(("name", "by"), [(name, by) for name in INSTANTS for by in INSTANTS[name][2][:1]])
def test_killed_and_resumed(name, by, release, old, server, follower, tmp_path):
    call, path, _ = INSTANTS[name]
    there = set(tree(old).values())
    place = old / path.removeprefix("OLD/") if path.startswith("OLD/") else follower.root / path
    trace = tmp_path / "trace"
    inject = ["-P", str(place), "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when=1"]
    killing = ["strace", "-f", "-o", str(trace), *inject, *command(follower, old, "--by", by)]
    with started(killing, tmp_path / "log") as adoption:
        until(lambda: adoption.ended or "+++ killed by SIGKILL" in read(trace), "the instant does not come")
        assert "+++ killed by SIGKILL" in read(trace), f"the instant never came: {adoption.output}"
        adoption.kill()
    assert somewhere(old, follower) >= there
    result = adopt(follower, old, "--by", by)
    assert result.code == 0, result.output
    assert fetched(server) == []
    assert set(listed(tree(old))) == (
        set(BESIDE) if by == "rename" else set(listed(served_filesets(release) | BESIDE))
    )
    complete(follower, release)
    assert fetched(server) == []


def read(trace: Path) -> str:
    return trace.read_text() if trace.exists() else ""


@NEEDS_STRACE
def test_an_old_name_goes_when_the_new_one_is_marked_and_flushed(release, old, follower, tmp_path):
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-qqq", "-y", "-s", "300", "-o", str(trace), "-e", "trace=unlink,fsync,rename"]
    result = ended([*strace, *command(follower, old, "--by", "rename", "--workers", "1")])
    assert result.code == 0, result.output
    calls = [f"{call.name}({call.arguments})" for call in read_calls(trace.read_text())]
    gone = next(n for n, call in enumerate(calls) if f'unlink("{old}/{PRODUCT}/{CHIP}' in call)
    before = "\n".join(calls[:gone])
    for flushed in (
        f"store/{PRODUCT}>)",
        f"{IN_INCOMING}>)",
        f"{IN_INCOMING}/{BUNDLE}>)",
        f"state/{PRODUCT}/downloaded>)",
    ):
        assert f"<{follower.root}/{flushed}" in before
    assert before.rindex("/downloaded/.") < before.rindex(f"state/{PRODUCT}/downloaded>)")


def test_stopped_and_resumed(release, old, server, follower, tmp_path):
    follower.source = {"connections": 1}
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/{CHIP}/index.txt"))
    with started(command(follower, old, "--by", "rename"), tmp_path / "log") as adoption:
        until(lambda: CHIP in requested_filesets(server), "the fileset is not asked for")
        adoption.request_stop()
        opened.set()
        stopped = adoption.wait()
    assert stopped.code == 25, stopped.output
    assert "Traceback" not in stopped.output
    result = adopt(follower, old, "--by", "rename")
    assert result.code == 0, result.output
    assert fetched(server) == []
    complete(follower, release)


@pytest.fixture
def elsewhere(old: Path, other_disk: Path) -> Path:
    """The old folder on another file system than the mirror."""
    return Path(shutil.copytree(old, other_disk / "MIRROR"))


@pytest.mark.parametrize("by", ["link", "rename"])
def test_another_file_system_is_refused_before_anything_is_taken_over(by, elsewhere, server, follower):
    before = tree(elsewhere)
    result = adopt(follower, elsewhere, "--by", by)
    assert result.code == 40, result.output
    assert f" and mirror.root ({follower.root}) lie on two file systems" in result.output
    assert "choose `--by copy`" in result.output
    assert tree(elsewhere) == before
    assert leftovers(follower.root) == []
    assert not (follower.root / "store").exists()
    assert requested_filesets(server) == set()


def test_another_file_system_by_copy(elsewhere, release, server, follower):
    before = tree(elsewhere)
    result = adopt(follower, elsewhere, "--by", "copy")
    assert result.code == 0, result.output
    assert fetched(server) == []
    assert tree(elsewhere) == before
    complete(follower, release)


def test_a_copy_for_which_there_is_no_space(release, old, server, follower):
    follower.mirror["min_free"] = "900 TB"
    result = adopt(follower, old, "--by", "copy")
    assert result.code == 30, result.output
    # Which fileset is the first to meet the cause is a matter of chance.
    assert f"the copy of {old}/" in result.output
    assert "in all: lower mirror.min_free" in result.output
    assert fetched(server) == []
    follower.mirror["min_free"] = 0
    assert adopt(follower, old, "--by", "copy").code == 0
    complete(follower, release)


def test_the_root_may_be_a_new_folder_in_the_old_one(release, old, server, follower):
    """Where the old folder is all of its file system, a link leads to no other place."""
    follower.mirror["root"] = str(old / "ipp-mirror")
    result = adopt(follower, old)
    assert result.code == 0, result.output
    assert "ipp-mirror" not in result.output.splitlines()[1]
    assert tree(old / "ipp-mirror" / "store") == served_filesets(release)
    assert fetched(server) == []


def test_folders_that_cannot_be_adopted(release, old, server, follower, tmp_path):
    mirror = tmp_path / "mirror"
    (tmp_path / "alias").symlink_to(old)
    (tmp_path / "empty").mkdir()
    refused = {
        "is absent": (tmp_path / "absent", mirror, "No such file or directory at "),
        "is a file": (old / "product_status.csv", mirror, "Not a directory at "),
        "is the root": (old, old, f"expected a folder outside mirror.root, got {old}, which is {old}"),
        "is the root by another name": (tmp_path / "alias", old, "expected a folder outside mirror.root"),
        "is the root, which is a link": (old, tmp_path / "alias", "expected a folder outside mirror.root"),
        "is in the root": (old / PRODUCT, old, "expected a folder outside mirror.root"),
        "holds the root in a product": (
            old,
            old / PRODUCT / "m",
            f"expected mirror.root outside the folders of the products, got {old}/{PRODUCT}/m",
        ),
        "holds the root in a product, behind a link": (
            old,
            tmp_path / "alias" / PRODUCT / "m",
            f"expected mirror.root outside the folders of the products, got {tmp_path}/alias/{PRODUCT}/m",
        ),
        "is empty": (tmp_path / "empty", mirror, "got an empty folder. Name the folder with PRODUCT"),
        "holds no product": (
            old / PRODUCT,
            mirror,
            # The root of the case before was made there.
            f"as a folder in {old / PRODUCT}, got m, {CHIP}, plain. Name {old} with PRODUCT/",
        ),
    }
    before = tree(old)
    for name, (folder, root, reason) in refused.items():
        follower.mirror["root"] = str(root)
        result = adopt(follower, folder)
        assert result.code == 40, f"{name}: {result.output}"
        assert reason in result.output, name
        assert result.output.splitlines()[-1].endswith(
            ("nothing was started.", "nothing was taken over.", "Nothing was started.")
        )
        assert requested_filesets(server) == set()
        assert {path: content for path, content in tree(old).items() if path in before} == before
        if root in {old, tmp_path / "alias"}:
            assert tree(old) == before, f"{name}: nothing is made in it"


def test_a_product_that_is_a_symbolic_link_is_left(release, old, server, follower):
    (old / OTHER).rename(old.parent / "other-disk")
    (old / OTHER).symlink_to(old.parent / "other-disk")
    result = adopt(follower, old)
    assert result.code == 0, result.output
    assert f"products {PRODUCT}; left there: MD01, product_status.csv, {OTHER}" in result.output
    assert fetched(server) == []


def test_an_update_and_an_adoption_exclude_each_other(release, old, server, follower, tmp_path):
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/{CHIP}/*.tgz"))
    with started(follower.command(), tmp_path / "log") as update:
        until(lambda: fetched(server), "the update does not begin")
        refused = adopt(follower, old)
        opened.set()
        assert update.wait().code == 0
    assert refused.code == 10, refused.output
    assert "expected to be the only update of this mirror" in refused.output


def test_what_the_adoption_was_is_recorded(release, old, follower):
    assert adopt(follower, old, "--products", PRODUCT).code == 0
    record = json.loads((follower.root / "state" / PRODUCT / "adopted.json").read_bytes())
    assert {key: record[key] for key in ("product", "folder", "by", "done", "failed")} == {
        "product": PRODUCT,
        "folder": str(old),
        "by": "link",
        "done": 2,
        "failed": 0,
    }
    assert not (follower.root / "store" / OTHER).exists()


def test_by_the_command_of_luigi(release, old, server, follower):
    luigi = follower.command()
    luigi[luigi.index("UpdateMirror")] = "AdoptMirror"
    result = ended([*luigi, "--folder", str(old)])
    assert result.code == 0, result.output
    wrong = ended([*luigi, "--folder", str(old), "--by", "magic"])
    assert wrong.code == 40
    assert "--by: expected link, rename or copy, got 'magic'. Nothing was started." in wrong.output
    assert fetched(server) == []
    complete(follower, release)
