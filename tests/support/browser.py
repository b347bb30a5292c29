"""Pages in headless Chromium: their picture, the document that the browser made, and its complaints."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
_FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "enable-logging=stderr",
)


def open_page(url: str, picture: Path, size: str) -> "subprocess.CompletedProcess[str]":
    """Open the page in a window of ``size``, such as ``1100,600`` pixels, and take its picture."""
    flags = [f"--{flag}" for flag in (*_FLAGS, f"window-size={size}")]
    profile = f"--user-data-dir={picture.parent / 'profile'}"
    return subprocess.run(
        [str(CHROMIUM), *flags, profile, f"--screenshot={picture}", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
