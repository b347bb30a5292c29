"""Archives of any members and any header blocks, as no writer of bundles makes them."""

import io
import tarfile


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A bundle of these members, in their order."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """The description of one member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o644
    return info


def header(name: str, kind: bytes, size: int = 0, **more: float) -> bytes:
    """One header block, whatever it says."""
    info = member(name, kind)
    info.size = size
    for attribute, value in more.items():
        setattr(info, attribute, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def attributes(text: bytes) -> bytes:
    """A header with attributes for the member behind it, in the pax format."""
    return header("p", tarfile.XHDTYPE, len(text)) + data(text)


def attribute(name: str, value: str) -> bytes:
    """One attribute; its line begins with its own length."""
    rest = f" {name}={value}\n".encode()
    length = next(n for n in range(len(rest), 10**7) if n == len(rest) + len(str(n)))
    return str(length).encode() + rest


def data(content: bytes) -> bytes:
    """Content of a member, filled up to whole blocks."""
    return content + bytes(-len(content) % 512)


END = bytes(1024)
"""End mark of an archive."""
