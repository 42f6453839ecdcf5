"""Lets the site read docstrings: their Sphinx roles and directives become Markdown (a Griffe extension)."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).resolve().parent))
from formulas import mathml

_ROLE = re.compile(r":(attr|class|data|func|meth|mod|math):`([^`]+)`")
_BLOCK = re.compile(r"^([ \t]*)\.\. math::[ \t]*\n((?:\1[ \t]+.*\n?|[ \t]*\n)+)", re.MULTILINE)
_TABLE = re.compile(r"^([ \t]*)(=+(?: +=+)+)[ \t]*\n(.+?)^\1=+(?: +=+)+[ \t]*$", re.MULTILINE | re.DOTALL)


class Roles(griffe.Extension):
    """Changes the docstrings of a package once all of it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        self._walk(pkg)

    def _walk(self, found: griffe.Object) -> None:
        if found.docstring is not None:
            found.docstring.value = markdown(found.docstring.value, found)
        for member in found.members.values():
            if not member.is_alias:
                self._walk(member)


def markdown(text: str, where: griffe.Object) -> str:
    """A docstring in Markdown."""
    text = _TABLE.sub(lambda match: _table(match[1], match[2], match[3]), text)
    text = _BLOCK.sub(lambda m: textwrap.indent(mathml(textwrap.dedent(m[2]), block=True), m[1]) + "\n", text)
    return _ROLE.sub(lambda match: _role(match[1], match[2], where), text)


def _table(indent: str, rule: str, body: str) -> str:
    """A simple table of reStructuredText, without a header; a row without a first cell goes on with the last one."""
    starts = [match.start() for match in re.finditer("=+", rule)]
    rows: list[list[str]] = []
    for line in filter(str.strip, textwrap.dedent(body).splitlines()):
        if set(line) <= {"=", " "}:
            continue
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
    lines = ["| " * len(starts) + "|", "|---" * len(starts) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return textwrap.indent("\n".join(lines), indent)


def _role(role: str, content: str, where: griffe.Object) -> str:
    if role == "math":
        return mathml(content)
    name = content.removeprefix("~")
    path = _resolve(name, where)
    shown = name.rsplit(".", 1)[-1] if content.startswith("~") else name
    return f"`{shown}`" if path is None else f"[`{shown}`][{path}]"


def _resolve(name: str, where: griffe.Object) -> str | None:
    """The full path of what is meant, if it has a place in the reference."""
    package = where.package
    try:
        path = name if name.startswith("prudence.") else where.resolve(name.split(".")[0])
        if not name.startswith("prudence."):
            path = ".".join([path, *name.split(".")[1:]])
        found = package[path.removeprefix("prudence.")]
        found = found.final_target if found.is_alias else found
    except (KeyError, griffe.GriffeError):
        return None
    shown = found.is_module or found.docstring is not None
    return found.path if shown and not any(part.startswith("_") for part in found.path.split(".")) else None
