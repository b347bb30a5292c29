"""Model of a disk: what a power cut may forget, by the system calls of a run that strace recorded.

The disk of this model keeps nothing that it was not asked to keep: bytes are safe once their file was
flushed after the last write, a name is safe once its folder was flushed after the name was made. A name that
was removed is there again unless its folder was flushed.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

_CALLS = (
    "openat,write,ftruncate,fsync,fdatasync,syncfs,rename,renameat2,link,linkat,mkdir,unlink,unlinkat,rmdir"
)
# More than any write of these runs: what was written is in the trace.
_STRING_BYTES = 1 << 22
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"|(?:\d+|AT_FDCWD)<([^>]*)>')
_OPENED = re.compile(r"\d+<([^>]*)>")
_WRITTEN = re.compile(r'"((?:[^"\\]|\\.)*)", \d+$')
_UNFINISHED = "<unfinished ...>"
_RELATIVE_TO_FOLDER = {"openat", "renameat2", "unlinkat", "linkat"}
_FOLDERS = ("store", "data", "info", "state")
_NEVER_FLUSHED = ("state/update.lock", "state/ownership.lock", "state/arrivals.lock", "state/filesets.lock")
# The adopted folder, beside those of the mirror.
ADOPTED = "@adopted"


def tracing(trace: Path, *more: str) -> list[str]:
    """Return the command that runs another one and records its calls, and ``more`` calls, in ``trace``."""
    strace = ["strace", "-f", "-qqq", "-y", "-s", str(_STRING_BYTES)]
    return [*strace, "-o", str(trace), "-e", f"trace={','.join([_CALLS, *more])}"]


@dataclass(frozen=True)
class Call:
    """One system call that did what it was asked to."""

    name: str
    arguments: str

    @property
    def flushes(self) -> bool:
        return self.name in {"fsync", "fdatasync"}

    @cached_property
    def paths(self) -> list[Path]:
        """Paths among the arguments, each joined to the folder that it is relative to."""
        if self.name == "write":
            opened = _OPENED.match(self.arguments)
            return [Path(opened[1])] if opened else []
        paths: list[Path] = []
        folder = Path("/")
        for quoted, opened in _PATH.findall(self.arguments):
            if quoted:
                paths.append(folder / quoted)
            elif self.name in _RELATIVE_TO_FOLDER:
                folder = Path(opened)
            else:
                return [Path(opened)]
        return paths

    @cached_property
    def written(self) -> bytes:
        """Bytes of a write."""
        match = _WRITTEN.search(self.arguments)
        assert match, f"a write is cut short in the trace: {self.arguments[:200]}"
        return codecs.escape_decode(match[1].encode())[0]


def read_calls(trace: str) -> list[Call]:
    """Return the calls in order. While another thread was busy too, a flush counts from its end only."""
    texts: list[str] = []
    begun: dict[str, int] = {}
    for thread, text in _LINE.findall(trace):
        if resumed := _RESUMED.match(text):
            place = begun.pop(thread)
            whole = texts[place] + resumed[1]
            texts[place] = ""
            if whole.startswith(("fsync", "fdatasync")):
                texts.append(whole)
            else:
                texts[place] = whole
        elif text.endswith(_UNFINISHED):
            begun[thread] = len(texts)
            texts.append(text.removesuffix(_UNFINISHED).rstrip())
        else:
            texts.append(text)
    matches = (_CALL.match(text) for text in texts)
    return [Call(match[1], match[2]) for match in matches if match and not match[3].startswith("-")]


@dataclass
class Node:
    """File or folder: its bytes or names, and those that are safe."""

    content: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""
    clean: bool = True
    names: dict[str, "Node"] = field(default_factory=dict)
    kept: dict[str, "Node"] = field(default_factory=dict)
    is_folder: bool = False

    def flush(self) -> None:
        """Make its bytes and names safe."""
        self.clean = True
        self.flushed = bytes(self.content)
        self.kept = dict(self.names)

    def holds_safely(self, name: str) -> bool:
        return name in self.names and self.kept.get(name) is self.names[name]

    def below(self, path: Path = Path()) -> Iterator[tuple[Path, "Node"]]:
        """Yield all that is in it, with paths relative to it."""
        for name, node in self.names.items():
            yield path / name, node
            yield from node.below(path / name)


def on_disk(folder: Path) -> Node:
    """Return the folder as it is, all of it safe."""
    node = Node(is_folder=True)
    for path in folder.iterdir():
        if path.is_dir():
            node.names[path.name] = on_disk(path)
        else:
            file = node.names[path.name] = Node(bytearray(path.read_bytes()))
            file.flush()
    node.flush()
    return node


@dataclass
class Disk:
    """Tree below ``root`` as the calls make it. ``broken`` collects what is not kept on the way.

    ``adopted`` is a folder outside of the root from which files are linked or renamed.
    """

    root: Path
    promised: dict[str, list[str]]
    top: Node = field(default_factory=lambda: Node(is_folder=True))
    adopted: Path | None = None
    broken: list[str] = field(default_factory=list)

    def run(self, calls: Iterable[Call]) -> list[str]:
        """Return everything that a power cut at some instant could have turned into a lie."""
        for call in calls:
            self.do(call)
        for folder in _FOLDERS:
            for path, node in list(self.top.names.get(folder, Node()).below(Path(folder))):
                if path.as_posix() not in _NEVER_FLUSHED and not node.names and not self._is_safe(path):
                    self.broken.append(f"at the end of the run {path} is not safe")
        return self.broken

    def do(self, call: Call) -> None:
        """Change the tree as the call does."""
        paths = [self._relative(path) for path in call.paths]
        if any(path is not None for path in paths):
            getattr(self, f"_{call.name}")(call, *paths)

    def left(self, *, names_are_kept: bool) -> Iterator[tuple[Path, Node]]:
        """Yield all files as a power cut leaves them, with or without the names that were not flushed."""
        for path, node in _left(self.top, Path(), names_are_kept):
            if self.adopted and path.parts[0] == ADOPTED:
                yield self.adopted / path.relative_to(ADOPTED), node
            else:
                yield self.root / path, node

    def _relative(self, path: Path) -> Path | None:
        if self.adopted and path.is_relative_to(self.adopted):
            return ADOPTED / path.relative_to(self.adopted)
        return path.relative_to(self.root) if path.is_relative_to(self.root) else None

    def _node(self, path: Path) -> Node:
        node = self.top
        for name in path.parts:
            node = node.names[name]
        return node

    def _put(self, path: Path, node: Node) -> None:
        # Of two calls at the same time either may be told first: the kernel had made the folder by then.
        parent = self.top
        for name in path.parent.parts:
            parent = parent.names.setdefault(name, Node(is_folder=True))
        parent.names[path.name] = node

    def _is_there(self, path: Path) -> bool:
        node: Node | None = self.top
        for name in path.parts:
            node = node.names.get(name) if node else None
        return node is not None

    def _take(self, path: Path) -> Node:
        return self._node(path.parent).names.pop(path.name)

    def _is_safe(self, path: Path) -> bool:
        parents = [path, *path.parents][:-1]
        return (
            self._is_there(path)
            and self._node(path).clean
            and all(self._node(step.parent).holds_safely(step.name) for step in parents)
        )

    def _openat(self, call: Call, path: Path, *_: Path) -> None:
        if "O_CREAT" in call.arguments and not self._is_there(path):
            self._put(path, Node())
        if "O_TRUNC" in call.arguments:
            self._node(path).clean = False
            self._node(path).content.clear()

    def _write(self, call: Call, path: Path) -> None:
        """Append: no file of a mirror is written in any other way."""
        node = self._node(path)
        node.clean = False
        node.content += call.written

    def _ftruncate(self, call: Call, path: Path) -> None:
        node = self._node(path)
        node.clean = False
        size = int(call.arguments.rpartition(" ")[2])
        node.content[:] = node.content[:size].ljust(size, b"\0")

    def _fsync(self, _call: Call, path: Path) -> None:
        self._node(path).flush()

    _fdatasync = _fsync

    def _syncfs(self, _call: Call, _path: Path) -> None:
        for node in (self.top, *(node for _, node in self.top.below())):
            node.flush()

    def _mkdir(self, _call: Call, path: Path) -> None:
        if path.name and not self._is_there(path):
            self._put(path, Node(is_folder=True))

    def _unlink(self, _call: Call, path: Path) -> None:
        self._take(path)
        if path.parts[0] == ADOPTED:
            self._check(path, "went")

    def _unlinkat(self, _call: Call, path: Path) -> None:
        self._take(path)

    _rmdir = _unlinkat

    def _link(self, _call: Call, old: Path, new: Path) -> None:
        self._put(new, self._node(old))

    _linkat = _link

    def _rename(self, _call: Call, old: Path, new: Path) -> None:
        node = self._take(old)
        self._put(new, node)
        self._published(new, node)

    def _renameat2(self, call: Call, old: Path, new: Path) -> None:
        assert "RENAME_EXCHANGE" in call.arguments
        published, replaced = self._take(old), self._take(new)
        self._put(new, published)
        self._put(old, replaced)
        self._published(new, published)

    def _published(self, path: Path, node: Node) -> None:
        """A file must be safe before it gets its final name, and what a marker names before the marker."""
        if path.parts[0] == "incoming":
            return
        if not node.clean:
            self.broken.append(f"{path} got its name before its bytes were safe")
        for name, inner in node.below():
            if not inner.clean or not self._node(path / name.parent).holds_safely(name.name):
                self.broken.append(f"{path} got its name before {name} in it was safe")
        self._check(path, "got its name", self._snapped(path))

    def _check(self, path: Path, what: str, more: Iterable[str] = ()) -> None:
        """Note what the path promises and is not safe."""
        for promised in [*self.promised.get(path.as_posix(), []), *more]:
            if not self._is_safe(Path(promised)):
                self.broken.append(f"{path} {what} before {promised} was safe")

    def _snapped(self, path: Path) -> list[str]:
        """Return the markers that are there when a snapshot of their folder is written."""
        if path.suffix != ".snapshot":
            return []
        folder = path.with_suffix("")
        return [f"{folder.as_posix()}/{name}" for name in self._node(folder).names if name.endswith(".json")]


def power_cuts(
    disk: Disk, calls: Iterable[Call], is_chosen: Callable[[Call], bool]
) -> Iterator[tuple[str, dict[Path, Node]]]:
    """Yield, with a description, the files that power cuts just before the chosen calls leave.

    Bytes that were not flushed are lost, and the names that were not are lost or kept; no state comes twice.
    """
    seen: list[dict[Path, bytes]] = []
    for call in calls:
        for kept in (False, True) if is_chosen(call) else ():
            left = dict(disk.left(names_are_kept=kept))
            content = {path: node.flushed for path, node in left.items()}
            if content not in seen:
                seen.append(content)
                yield f"before {call.name} of {call.paths[0]}, names {'kept' if kept else 'lost'}", left
        disk.do(call)


def put(left: dict[Path, Node]) -> None:
    """Write what a power cut left; names of one file are so again."""
    written: dict[int, Path] = {}
    for path, node in left.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if id(node) in written:
            path.hardlink_to(written[id(node)])
        else:
            path.write_bytes(node.flushed)
            written[id(node)] = path


def _left(folder: Node, path: Path, names_are_kept: bool) -> Iterator[tuple[Path, Node]]:
    for name, node in (folder.names if names_are_kept else folder.kept).items():
        if node.is_folder:
            yield from _left(node, path / name, names_are_kept)
        else:
            yield path / name, node
