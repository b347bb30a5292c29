"""Pages in headless Chromium: their picture, the document that the browser made, and its complaints."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
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


# Frames as wide as the windows; each is measured once all are loaded.
_MEASURE = """<script>
addEventListener("load", () => {
  const sizes = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, width = frame.contentWindow.innerWidth;
    const wide = [...page.querySelectorAll("body *:not(thead *)")].filter(
      each => each.getBoundingClientRect().right > width).map(each => each.outerHTML.slice(0, 120));
    return [width, page.documentElement.scrollWidth, wide.slice(0, 3)];
  });
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(sizes);
});
</script>"""


def overflowing(pages: Sequence[str], widths: Sequence[int], folder: Path) -> list[str]:
    """Show each page, as HTML, in windows of these widths in pixels; say which is wider than its window."""
    frames = "".join(
        f'<iframe srcdoc="{html.escape(page)}" style="border: 0; height: 9000px; width: {width}px"></iframe>'
        for page in pages
        for width in widths
    )
    (folder / "frames.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{frames}{_MEASURE}")
    shown = open_page((folder / "frames.html").as_uri(), folder / "frames.png", "2000,1000").stdout
    found = re.search("<pre>(.*)</pre>", shown, re.DOTALL)
    assert found, shown[-1000:]
    sizes = json.loads(html.unescape(found[1]))
    assert [width for width, *_ in sizes] == [*widths] * len(pages)
    return [f"{needed} in {width}: {wide}" for width, needed, wide in sizes if needed > width]
