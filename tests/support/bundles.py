"""Distribution bundles and their dirinfo documents."""

import gzip
import io
import tarfile


def bundle(members: dict[str, bytes]) -> bytes:
    """A gzipped tar archive as a distribution bundle is written."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        top = tarfile.TarInfo("./")
        top.type, top.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(top)
        for name, content in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mtime = len(content), 1_250_000_000
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def dirinfo(destdir: str, components: dict[str, str]) -> bytes:
    """A dirinfo document."""
    rows = "".join(f"\t{name}\tSTR\t{folder}\n" for name, folder in components.items())
    return f"destdir METADATA\n\tdestdir\tSTR\t{destdir}\nEND\n\ncomponents METADATA\n{rows}END\n".encode()
