"""``python -m pipeline.sample``."""

import subprocess
import sys

from pipeline.errors import EXIT_DONE, EXIT_SETTINGS_OR_BUG
from pipeline.sample.__main__ import main
from pipeline.units import as_size

SMALL = ["--exposures", "1", "--chips", "1", "--skycells", "1", "--image-size", "32", "--stamps", "1"]


def test_it_writes_a_store_and_adds_to_it(tmp_path):
    out = tmp_path / "store"
    command = [sys.executable, "-m", "pipeline.sample", str(out), *SMALL]
    first = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (first.returncode, first.stderr) == (EXIT_DONE, "")
    files = [path for path in out.glob("*/*/*") if path.name != "index.txt"]
    size = as_size(sum(path.stat().st_size for path in files))
    assert first.stdout.startswith(f"{out}: 13 filesets, {len(files)} files, {size} in ")
    assert main([str(out), "--append", *SMALL]) == EXIT_DONE
    listing = (out / "md-all-rel-200907" / "index.txt").read_text()
    assert listing.count("|raw ") == 2


def test_what_cannot_be_done_is_one_sentence(tmp_path, capsys):
    (tmp_path / "mine").write_text("x")
    assert main([str(tmp_path), *SMALL]) == EXIT_SETTINGS_OR_BUG
    assert main([str(tmp_path / "new"), "--chips", "61"]) == EXIT_SETTINGS_OR_BUG
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"pipeline.sample: {tmp_path}: expected an empty or absent folder, this one has files; "
        "nothing was written",
        "pipeline.sample: chips: expected 1 to 60, got 61; nothing was written",
    ]
    assert not (tmp_path / "new").exists()
