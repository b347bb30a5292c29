"""Model of a disk: what a power cut may forget, by the system calls of a run that strace recorded.

The disk of this model keeps nothing that it was not asked to keep: bytes are safe once their file was
flushed after the last write, a name is safe once its folder was flushed after the name was made.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

TRACED = "openat,write,ftruncate,fsync,fdatasync,syncfs,rename,renameat2,link,mkdir,unlink,unlinkat,rmdir"
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"|(?:\d+|AT_FDCWD)<([^>]*)>')
_UNFINISHED = "<unfinished ...>"
_FOLDERS = ("store", "data", "info", "state")
_NEVER_FLUSHED = ("state/update.lock", "state/ownership.lock", "state/arrivals.lock", "state/filesets.lock")


@dataclass(frozen=True)
class Call:
    """One system call that did what it was asked to."""

    name: str
    arguments: str

    @property
    def flushes(self) -> bool:
        return self.name in {"fsync", "fdatasync"}

    @property
    def paths(self) -> list[Path]:
        """The paths among the arguments, each joined to the folder that it is relative to."""
        paths: list[Path] = []
        folder = Path("/")
        for quoted, opened in _PATH.findall(self.arguments):
            if quoted:
                paths.append(folder / quoted)
            elif self.name in {"openat", "renameat2", "unlinkat"}:
                folder = Path(opened)
            else:
                return [Path(opened)]
        return paths


def read_calls(trace: str) -> list[Call]:
    """The calls in their order. While another thread was busy too, a flush counts from its end only."""
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
    """A file or folder: whether its bytes are safe, and which names it holds, safely or not."""

    clean: bool = True
    names: dict[str, "Node"] = field(default_factory=dict)
    safe: set[str] = field(default_factory=set)

    def below(self, path: Path = Path()) -> Iterator[tuple[Path, "Node"]]:
        """All that is in it, with paths relative to it."""
        for name, node in self.names.items():
            yield path / name, node
            yield from node.below(path / name)


@dataclass
class Disk:
    """The tree below ``root`` as the calls make it. ``broken`` collects what is not kept on the way."""

    root: Path
    promised: dict[str, list[str]]
    top: Node = field(default_factory=Node)
    broken: list[str] = field(default_factory=list)

    def run(self, calls: Iterable[Call]) -> list[str]:
        """Everything that a power cut at some instant could have turned into a lie."""
        for call in calls:
            paths = [self._relative(path) for path in call.paths]
            if any(path is not None for path in paths):
                getattr(self, f"_{call.name}")(call, *paths)
        for folder in _FOLDERS:
            for path, node in list(self.top.names.get(folder, Node()).below(Path(folder))):
                if path.as_posix() not in _NEVER_FLUSHED and not node.names and not self._is_safe(path):
                    self.broken.append(f"at the end of the run {path} is not safe")
        return self.broken

    def _relative(self, path: Path) -> Path | None:
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
            parent = parent.names.setdefault(name, Node())
        parent.names[path.name] = node
        parent.safe.discard(path.name)

    def _is_there(self, path: Path) -> bool:
        node: Node | None = self.top
        for name in path.parts:
            node = node.names.get(name) if node else None
        return node is not None

    def _take(self, path: Path) -> Node:
        parent = self._node(path.parent)
        parent.safe.discard(path.name)
        return parent.names.pop(path.name)

    def _is_safe(self, path: Path) -> bool:
        parents = [path, *path.parents][:-1]
        return self._node(path).clean and all(step.name in self._node(step.parent).safe for step in parents)

    def _openat(self, call: Call, path: Path, *_: Path) -> None:
        if "O_CREAT" in call.arguments and not self._is_there(path):
            self._put(path, Node())
        if "O_TRUNC" in call.arguments:
            self._node(path).clean = False

    def _write(self, _call: Call, path: Path) -> None:
        self._node(path).clean = False

    _ftruncate = _write

    def _fsync(self, _call: Call, path: Path) -> None:
        node = self._node(path)
        node.clean = True
        node.safe = set(node.names)

    _fdatasync = _fsync

    def _syncfs(self, _call: Call, _path: Path) -> None:
        for node in (self.top, *(node for _, node in self.top.below())):
            node.clean = True
            node.safe = set(node.names)

    def _mkdir(self, _call: Call, path: Path) -> None:
        if path.name and not self._is_there(path):
            self._put(path, Node())

    def _unlink(self, _call: Call, path: Path) -> None:
        self._take(path)

    _unlinkat = _rmdir = _unlink

    def _link(self, _call: Call, old: Path, new: Path) -> None:
        self._put(new, self._node(old))

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
            if not inner.clean or name.name not in self._node(path / name.parent).safe:
                self.broken.append(f"{path} got its name before {name} in it was safe")
        for promised in [*self.promised.get(path.as_posix(), []), *self._snapped(path)]:
            if not self._is_safe(Path(promised)):
                self.broken.append(f"{path} promised {promised} before it was safe")

    def _snapped(self, path: Path) -> list[str]:
        """The markers that are there when a snapshot of their folder is written."""
        if path.suffix != ".snapshot":
            return []
        folder = path.with_suffix("")
        return [f"{folder.as_posix()}/{name}" for name in self._node(folder).names if name.endswith(".json")]
