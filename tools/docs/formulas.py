"""TeX formulas as MathML, which browsers draw by themselves: without a script, a font or a network."""

from __future__ import annotations

import re

from latex2mathml.converter import convert

_FORMULAS = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$(?![\s$])([^$]+?)(?<![\s\\])\$(?!\d)", re.DOTALL)
_OPERATORS = {"≤": r"\le", "≥": r"\ge", "←": r"\leftarrow", "∼": r"\sim", "∈": r"\in", "⊙": r"\odot", "‖": r"\|"}
# As the converter has them, and as browsers space and stretch them.
_MENDED = {
    "<mi>&#x0007E;</mi>": "<mo>∼</mo>",
    "<mi>↦</mi>": "<mo>↦</mo>",
    "<mo>max</mo><mo": "<mi>max</mi><mo",
    "<mo>min</mo><mo": "<mi>min</mi><mo",
    "<mi>ln</mi><mi>": '<mi>ln</mi><mspace width="0.17em"/><mi>',
    '<mo accent="true">&#x02015;</mo>': '<mo accent="true" stretchy="true">&#x000AF;</mo>',
}
_SCRIPT = dict(zip("BEFHILMR", "ℬℰℱℋℐℒℳℛ", strict=True))


def formulas(text: str) -> str:
    """``$...$`` and ``$$...$$`` as MathML."""
    return _FORMULAS.sub(lambda match: mathml(match[1] or match[2], block=match[1] is not None), text)


def mathml(formula: str, *, block: bool = False) -> str:
    """A formula as MathML in which Markdown finds nothing to interpret.

    Raises:
        SystemExit: it is not understood.
    """
    tex = " ".join(formula.split())
    for character, command in _OPERATORS.items():
        tex = tex.replace(character, f"{command} ")
    # Browsers know no style of letters but their characters, and set a word's letters apart unless it is text.
    tex = re.sub(r"\\mathcal\s*\{?([A-Z])\}?", lambda m: _SCRIPT.get(m[1], chr(ord("𝒜") + ord(m[1]) - ord("A"))), tex)
    tex = re.sub(r"\\(?:mathrm|operatorname)\{(\w+)\}", r"\\text{\1}", tex)
    try:
        found = convert(tex, display="block" if block else "inline")
    except Exception as error:
        raise SystemExit(f"this formula is not understood ({error!r}): {formula}") from error
    for old, new in _MENDED.items():
        found = found.replace(old, new)
    found = found.replace("|", "&#124;").replace("*", "&#42;").replace("_", "&#95;")
    # A line that began with <math> would be taken for a block of HTML, hence the span.
    return f'\n\n<div class="formula">{found}</div>\n\n' if block else f"<span>{found}</span>"
