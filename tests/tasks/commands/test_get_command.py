"""``ipp-mirror get`` while a run is at work: its lines on a terminal."""

import json
from pathlib import Path

import pytest
from support.many_filesets import PRODUCT, row

from pipeline.durable import write_whole
from pipeline.errors import EXIT_FILESET_FAILED
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import write_marker
from tasks.commands import ipp_mirror


def test_codes_for_the_terminal_are_escaped_in_reasons_and_in_the_host(tmp_path: Path, capsys):
    layout = Layout(tmp_path)
    LocalListing(layout, PRODUCT).replace([row(1), row(2)])
    skipped = {"since": "2026-07-10T12:00:00Z", "by": "me", "reason": "bad \x1b]0;owned\a \nline 2"}
    write_marker(layout.marker(MarkerKind.SKIPPED, PRODUCT, "fileset.1"), skipped)
    # Of a run on another host.
    write_whole(layout.lock_file, json.dumps({"host": "dome\x1b[31m", "pid": 7}).encode())
    settings = {"source": {"url": "http://127.0.0.1:1"}, "mirror": {"root": str(tmp_path)}}
    config = tmp_path / "mirror.yaml"
    config.write_text(json.dumps(settings))
    command = ["get", "--config", str(config), PRODUCT, "fileset.1", "fileset.2"]
    with pytest.raises(SystemExit) as ended:
        ipp_mirror.main(command, standalone_mode=False)
    assert ended.value.code == EXIT_FILESET_FAILED
    said = capsys.readouterr()
    [why] = said.err.splitlines()
    assert r"by me: bad \x1b]0;owned\x07 \nline 2. `ipp-mirror unskip" in why
    [who] = said.out.splitlines()
    assert who.startswith(f"1 fileset of {PRODUCT} wanted, to be fetched by ")
    assert r"process 7 on dome\x1b[31m" in who
