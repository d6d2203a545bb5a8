"""The Link header (RFC 8288)."""

from __future__ import annotations

import re

__all__ = ["parse_links"]

# <target> ; parameters, up to a comma that is not inside quotes or <>.
_LINK = re.compile(r'\s*<([^>]*)>((?:[^,"<]|"(?:\\.|[^"\\])*")*)')
_PARAM = re.compile(r';\s*([^\s;=,"]+)\s*(?:=\s*(?:"((?:\\.|[^"\\])*)"|([^\s;,"]*)))?')


def parse_links(value: str | None) -> dict[str, dict[str, str]]:
    """The links of a Link header by their "rel", or by their URL if they have none.

    Each is a dict of its parameters and "url". What cannot be read is left out.
    """
    links: dict[str, dict[str, str]] = {}
    if not value:
        return links
    for match in _LINK.finditer(value):
        link = {"url": match.group(1).strip()}
        for name, quoted, plain in _PARAM.findall(match.group(2)):
            # The first of a name counts (RFC 8288 3.3).
            link.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted else plain)
        links[link.get("rel") or link["url"]] = link
    return links
