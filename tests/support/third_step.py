"""The program with a third step, added to a copy of it as docs/changing.md says ("A new step")."""

import ast
import re
import shutil
import textwrap
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]


def make_program(folder: Path, *, optional: bool) -> Path:
    """Copy the program to the folder and apply the recipe; return the folder."""
    for package in ("pipeline", "tasks"):
        # With what is compiled of it, which would take seconds.
        shutil.copytree(_REPOSITORY / package, folder / package)
    shutil.copy(_REPOSITORY / "luigi.cfg", folder)
    for path, code in recipe().items():
        target = folder / path
        target.write_text(_inserted(target.read_text(), code) if target.exists() else code)
    step = folder / "pipeline/mirror/steps/chart.py"
    step.write_text(_replaced(step.read_text(), "optional=True", f"optional={optional}"))
    return folder


def recipe() -> dict[str, str]:
    """The code of the recipe by the file that it belongs to."""
    page = (_REPOSITORY / "docs" / "changing.md").read_text(encoding="utf-8")
    section = page.partition("\n## A new step\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^\d\. `([^`]+)`[^\n]*\n\n   ```python\n(.*?)   ```\n", section, re.M | re.S)
    return {path: textwrap.dedent(code) for path, code in blocks}


def _inserted(text: str, code: str) -> str:
    """The text with the imports of the code behind its own, and the rest in place of what that redefines."""
    imports, _, rest = code.partition("\n\n")
    name = re.findall(r"^(\w+)(?:: .*)? = ", rest, re.M)[-1]
    old = next(node for node in ast.parse(text).body if _assigns(node, name))
    text = _replaced(text, ast.get_source_segment(text, old), rest.strip("\n"))
    last = re.findall(r"^from pipeline\.\S+ import .*\n", text, re.M)[-1]
    return _replaced(text, last, f"{last}{imports}\n")


def _assigns(node: ast.stmt, name: str) -> bool:
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [getattr(target, "id", "") for target in targets] == [name]


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)
