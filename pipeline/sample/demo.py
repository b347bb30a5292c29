"""``make demo``: a sample Data Store on this machine, mirrored into var/demo/."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.sample.plan import ReleasePlan
from pipeline.sample.release import PARTNER, write_release
from pipeline.sample.simulator import simulate
from pipeline.units import as_count, as_size

DEMO = Path("var/demo")
SETTINGS = """\
# Made by `make demo`.
source:
  url: {url}
  hidden_products: [{hidden}]   # served, but not listed at the root
mirror:
  root: mirror
  # Without products: all that the root lists, and the hidden ones.
catalog:
  enabled: true
"""
THINGS_TO_TRY = """
Three things to try:
1. Which warps in r cover this position?
   {command} find --config {settings} --at "35.9239 -4.2851" --stage warp --filter r
2. How does the mirror stand? With a browser (or {command} status --config {settings}):
   {page}
3. Serve it to the next site, and look at it with a browser:
   {command} serve --config {settings}
Run `make demo` again: nothing is fetched twice. Delete {folder} to start over."""


def main() -> int:
    """Write the sample store unless it exists, serve it, run one update. Return the update's exit code."""
    store, settings, requests = DEMO / "store", DEMO / "mirror.yaml", DEMO / "requests.log"
    if not store.exists():
        print(f"writing a small survey release into {store}", flush=True)
        with _filesets_counted(store):
            written = write_release(store, ReleasePlan())
        print(f"  {written}; the release is complete", flush=True)
    requests.unlink(missing_ok=True)
    with simulate(store, hidden=[PARTNER.name], request_log=requests) as server:
        print(f"sample Data Store: {server.url}, its requests in {requests}", flush=True)
        print(announcement(DEMO / "mirror"), flush=True)
        settings.write_text(SETTINGS.format(url=server.url, hidden=PARTNER.name), encoding="utf-8")
        command = [sys.executable, "-m", "tasks", "update", "--config", str(settings)]
        code = subprocess.run(command, check=False).returncode
    print_mirror(DEMO / "mirror")
    ours = Path(sys.executable).with_name("ipp-mirror")
    page = (DEMO / "mirror" / "status" / "index.html").resolve().as_uri()
    print(THINGS_TO_TRY.format(command=ours, settings=settings, page=page, folder=DEMO))
    return code


def announcement(root: Path) -> str:
    """Return the line before the update: what takes time after its last fileset, the first time only."""
    if (root / "status" / "coverage.png").exists():
        return "mirroring it"
    return "mirroring it; after the last fileset a map of the sky and a page are drawn"


@contextmanager
def _filesets_counted(store: Path) -> Iterator[None]:
    """Print each second how many filesets the store has, until the block ends."""
    ended = threading.Event()

    def count() -> None:
        while not ended.wait(1.0):
            print(f"  {as_count(sum(1 for _ in store.glob('*/*/')), 'fileset')}", flush=True)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        yield
    finally:
        ended.set()
        counting.join()


def print_mirror(root: Path) -> None:
    """Print the number of files in each folder of the mirror, their total size, and an example."""
    print(f"\n{root}/")
    for folder in ("store", "data", "info", "state"):
        files = sorted(path for path in (root / folder).rglob("*") if path.is_file())
        held = as_size(sum(path.stat().st_size for path in files))
        example = f"  e.g. {files[len(files) // 2].relative_to(root)}" if files else ""
        print(f"  {folder + '/':8}{len(files):5} files {held:>9}{example}")


if __name__ == "__main__":
    sys.exit(main())
