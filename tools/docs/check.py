"""Checks the built site: every link leads somewhere, nothing is fetched from elsewhere, every reference is resolved."""

from __future__ import annotations

import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_UNRESOLVED = re.compile(r"\]\[prudence[\w.]*\]|:(?:class|func|meth|data|attr|mod|math):`|\\(?:frac|mathrm|sum)\b")


class Page(HTMLParser):
    """The anchors of a page, what it links to, what it fetches, and its text outside code."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        if tag == "a" and (link := found.get("href")):
            self.links.append(link)
        stylesheet = tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect")
        if source := found.get("src") if tag in ("img", "script") else found.get("href") if stylesheet else None:
            self.fetched.append(source)
        if tag in ("pre", "code", "script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text.append(data)


def problems(site: Path) -> list[str]:
    """A line for each."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.fetched and parts.scheme != "data":
                    found.append(f"{name} fetches {link} from elsewhere")
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{name} links to {link}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name} links to {link}, and that page has no such place")
        found += [f"{name}: {match[0]!r} was not understood" for match in _UNRESOLVED.finditer("".join(page.text))]
    return found


if __name__ == "__main__":
    said = problems(Path(sys.argv[1]))
    print("\n".join(said) or "every link of the site leads somewhere")
    sys.exit(bool(said))
