"""Puts together what the documentation site is built from: `make docs` runs it before Zensical.

The pages of docs/ are written for GitHub, where they are read as they lie. The site is made from copies of them:

- A link to another page leads to its copy. A link to a module leads to its page in the API reference, a link to a
  record to its place among the results, a link to any other file of the repository to a page that shows it. A link to
  nothing is an error, and so is the name of a file that is not there.
- Formulas become MathML, which browsers draw by themselves: no script, no font and no network is needed.
- Every module of the package has a page in the API reference.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from formulas import formulas

ROOT = Path(__file__).resolve().parents[2]
PICTURES = {".png", ".svg", ".jpg", ".gif"}
LANGUAGES = {".py": "python", ".sh": "sh", ".toml": "toml", ".yaml": "yaml", ".json": "json", ".cff": "yaml"}
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_FILE = re.compile(r"`((?:prudence|tests|benchmarks|examples|tools)/[\w./-]+)`")
_LINK = re.compile(r"(?<=\])\(([^()\s]+)\)")


class Site:
    """Copies of the repository's pages, and where each of them lies on the site."""

    def __init__(self, root: Path, out: Path):
        self.root, self.out = root, out
        self.pages = {Path("README.md"): Path("index.md"), Path("CONTRIBUTING.md"): Path("contributing.md")}
        self.pages[Path("results/README.md")] = Path("results.md")
        for page in sorted((root / "docs").rglob("*.md")):
            inside = page.relative_to(root / "docs")
            self.pages[page.relative_to(root)] = inside.with_name("index.md") if inside.name == "README.md" else inside
        self.modules = sorted(path.relative_to(root) for path in (root / "prudence").rglob("*.py"))

    def write(self) -> None:
        """Everything but the configuration."""
        for module in self.modules:
            source = os.path.relpath(self._show(module), self._reference(module).parent)
            self._put(self._reference(module), _reference_page(module, source))
        for page, place in self.pages.items():
            text = (self.root / page).read_text()
            if missing := [name for name in _FILE.findall(text) if not (self.root / name).exists()]:
                raise SystemExit(f"{page} names {', '.join(missing)}, and there is no such file")
            wide = "---\nhide: [toc]\n---\n\n" if place == Path("results.md") else ""
            self._put(place, wide + outside_code(text, lambda part, page=page: formulas(self._links(part, page))))

    def navigation(self) -> list[object]:
        """The modules, by package, as the configuration has them."""
        packages: dict[str, list[object]] = {}
        for module in self.modules:
            package = module.parts[1] if len(module.parts) > 2 else "prudence"
            packages.setdefault(package, []).append({_dotted(module): str(self._reference(module))})
        return [{package: pages} for package, pages in packages.items()]

    def _links(self, text: str, page: Path) -> str:
        return _LINK.sub(lambda match: f"({self._link(match[1], page)})", text)

    def _link(self, target: str, page: Path) -> str:
        if re.match(r"[a-z]+:|#", target):
            return target
        path, _, anchor = target.partition("#")
        found = Path(os.path.normpath(page.parent / path))
        if not (self.root / found).exists():
            raise SystemExit(f"{page} links to {target}, and there is no {found}")
        place, record = self._place(found), found.parent == Path("results") and (self.root / found).is_dir()
        anchor = found.name if record and place == Path("results.md") else anchor
        here = self.pages[page].parent
        return os.path.relpath(place, here) + (f"#{anchor}" if anchor else "")

    def _place(self, found: Path) -> Path:
        """Where a file or a folder of the repository lies on the site."""
        for page in (found, found / "README.md"):
            if page in self.pages:
                return self.pages[page]
        if (self.root / found).is_dir():
            if found.parts[0] == "results":
                return Path("results.md")
            found = found / "__init__.py"
        if found in self.modules:
            return self._reference(found)
        place = found.relative_to("docs") if found.parts[0] == "docs" else found
        if found.suffix in PICTURES:
            (self.out / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / found, self.out / place)
            return place
        return self._show(found)

    def _show(self, found: Path) -> Path:
        """A page with the text of a file."""
        source, place = (self.root / found).read_text(), Path("source") / f"{found}.md"
        head = f"---\ntitle: {found}\nsearch:\n  exclude: true\n---\n\n# {found}\n\n"
        self._put(place, f"{head}````{LANGUAGES.get(found.suffix, 'text')}\n{source}\n````\n")
        return place

    def _put(self, place: Path, text: str) -> None:
        (self.out / place).parent.mkdir(parents=True, exist_ok=True)
        (self.out / place).write_text(text)

    @staticmethod
    def _reference(module: Path) -> Path:
        inside = module.relative_to("prudence")
        name = inside.with_name("index.md") if inside.name == "__init__.py" else inside.with_suffix(".md")
        return Path("reference") / name


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """``change`` applied to what is neither a block nor a span of code."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00"

    # A picture inside a link has its own brackets, and code may stand in a link's text.
    text = change(_CODE.sub(keep, _FENCE.sub(keep, text)))
    while "\x00" in text:
        text = re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])], text)
    return text


def _dotted(module: Path) -> str:
    return ".".join(module.with_suffix("").parts).removesuffix(".__init__")


def _reference_page(module: Path, source: str) -> str:
    return f"---\ntitle: {_dotted(module)}\n---\n\n::: {_dotted(module)}\n\n[Source of `{module}`]({source})\n"


def main(out: Path) -> None:
    """Writes pages and configuration into ``out``, which is emptied before."""
    shutil.rmtree(out, ignore_errors=True)
    site = Site(ROOT, out / "pages")
    site.write()
    shutil.copytree(ROOT / "docs" / "theme", site.out / "theme")
    config = yaml.safe_load((ROOT / "docs" / "site.yml").read_text())
    config["nav"].append({"Reference": site.navigation()})
    (out / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
