"""What must hold before a release, and whether the bundled libraries have known holes.

  scripts/release.py check [file]   version, changelog, pins, clean tree, what is in dist/, the audit
  scripts/release.py audit [file]   the pinned libcurl against curl's list of vulnerabilities
  scripts/release.py table          the table of bundled libraries for SECURITY.md
  scripts/release.py built path suite   remember of which revision a file in dist/ is, and what tested it

`file` is curl's list, if it was fetched by hand. Exit code 1 when something is wrong, 3 when the list cannot
be had: that is no clean bill.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from check_wheel import faults_of, project_version
from fetch_source import ROOT, pins

VULNERABILITIES = "https://curl.se/docs/vuln.json"
BUILT = ROOT / "dist" / "built.json"
PARTS = ("csrc", "python", "setup.py", "pyproject.toml", "README.md", "MANIFEST.in")
DEPS = (
    "scripts/pins.toml",
    "scripts/patch_curl.py",
    "scripts/build_deps.py",
    "scripts/find_curl.py",
)
USES = {
    "curl": "HTTP and HTTPS only",
    "openssl": "TLS; the 3.5 series has long-term support",
    "nghttp2": "HTTP/2",
    "zlib": "gzip, deflate",
    "brotli": "br, decoder only",
    "zstd": "zstd, decoder only",
}


def table() -> str:
    """The bundled libraries as a Markdown table, libcurl first."""
    rows = sorted(pins(), key=lambda pin: list(USES).index(pin.name))
    lines = ["| library | version | for |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {pin.name} | {pin.version} | {USES[pin.name]} |" for pin in rows)]
    )


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def built(path: Path, suite: str) -> None:
    """Remember of which revision the file is, and which tests it has passed."""
    known = json.loads(BUILT.read_text()) if BUILT.exists() else {}
    known[path.name] = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "revision": git("rev-parse", "HEAD"),
        "changed": git("status", "--porcelain", "--untracked-files=no", "--", *PARTS, *DEPS),
        "suite": suite,
    }
    BUILT.write_text(json.dumps(known, indent=1) + "\n")


def file_faults(path: Path) -> list[str]:
    """Whether the file is what this revision makes, and was tested."""
    known = json.loads(BUILT.read_text()) if BUILT.exists() else {}
    entry = known.get(path.name)
    if entry is None or entry["sha256"] != hashlib.sha256(path.read_bytes()).hexdigest():
        return ["comes from nobody knows which revision"]
    found = []
    revision = entry["revision"]
    changed = git("diff", "--name-only", revision, "HEAD", "--", *PARTS, *DEPS).split()
    if entry["changed"] or not git("cat-file", "-t", revision):
        found.append("was built with changes that are not committed")
    elif changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        found.append(f"is of revision {revision[:7]}; since then {changed[0]}{more} changed")
    if not entry["suite"]:
        found.append("was not tested")
    return found


def dist_faults(version: str) -> list[str]:
    """What is missing in dist/, or not as it should be."""
    found = []
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    for minor in re.findall(r"Python :: 3\.(\d+)", (ROOT / "pyproject.toml").read_text()):
        if not any(f"-cp3{minor}-cp3{minor}-" in wheel.name for wheel in wheels):
            found.append(
                f"dist/ holds no wheel for Python 3.{minor}: `make wheel ARGS=python3.{minor}`"
            )
    sdist = ROOT / "dist" / f"llmcurl-{version}.tar.gz"
    if not sdist.exists():
        found.append(f"dist/ holds no {sdist.name}: `make sdist-test`")
    else:
        found += [f"{sdist.name} {fault}: `make sdist-test`" for fault in file_faults(sdist)]
    for wheel in wheels:
        found += [f"{wheel.name} {fault}" for fault in faults_of(wheel)]
        found += [f"{wheel.name} {fault}: `make wheel`" for fault in file_faults(wheel)]
    return found


def release_faults() -> list[str]:
    """What is in the way of a release, one sentence each."""
    found = []
    version = project_version()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", changelog, re.M)
    if not headings or headings[0].partition(" ")[0] != version:
        found.append(f"CHANGELOG.md begins with {headings[:1]}, not with version {version}")
    elif not re.search(r"\d{4}-\d\d-\d\d", headings[0]):
        found.append(f"CHANGELOG.md: {version} has no date yet")
    for path in ("pyproject.toml", "setup.py", "README.md"):
        if re.search(rf"\b{re.escape(version)}\b", (ROOT / path).read_text()):
            found.append(f"{path} repeats the version {version}: it belongs into _version.py only")
    if table() not in (ROOT / "SECURITY.md").read_text():
        found.append("SECURITY.md: its table is not that of `scripts/release.py table`")
    if changed := git("status", "--porcelain").splitlines():
        found.append(f"{len(changed)} changes are not committed, {changed[0].split()[-1]} is one")
    if git("tag", "--list", f"v{version}") and git("rev-parse", f"v{version}^{{}}") != git(
        "rev-parse", "HEAD"
    ):
        found.append(f"the tag v{version} is on another commit")
    if not re.search(r"^license", (ROOT / "pyproject.toml").read_text(), re.M):
        found.append("pyproject.toml names no licence: nobody may use what is released")
    return found + dist_faults(version)


def known_holes(entries: list[dict[str, Any]], version: str) -> list[str]:
    """Those of curl's list (OSV format) that the libcurl of this version has."""
    found = []
    for entry in entries:
        about = entry.get("database_specific", {})
        versions = [
            v for affected in entry.get("affected", []) for v in affected.get("versions", [])
        ]
        if version in versions and about.get("affects", "both") != "tool":
            found.append(
                f"{entry.get('id')}: {entry.get('summary')} (severity {about.get('severity', 'unknown')})"
            )
    return found


def audit(path: str | None) -> int:
    version = next(pin.version for pin in pins() if pin.name == "curl")
    try:
        if path:
            content = Path(path).read_bytes()
        else:
            with urllib.request.urlopen(VULNERABILITIES, timeout=20) as answer:
                content = answer.read()
        entries = json.loads(content)
        if not isinstance(entries, list) or not entries:
            raise ValueError("it is no list")
    except (OSError, ValueError) as exc:
        print(f"audit: NOT DONE, curl's list of vulnerabilities cannot be had ({exc}).")
        print(
            f"audit: get {VULNERABILITIES} where it can be reached, then: scripts/release.py audit vuln.json"
        )
        return 3
    holes = known_holes(entries, version)
    for line in holes:
        print(f"audit: libcurl {version} has {line}")
    print(f"audit: {len(entries)} entries, {len(holes)} of them concern libcurl {version}.")
    print(
        "audit: the other libraries publish no such list; see their release notes for what is newer than"
    )
    print(
        "audit: " + ", ".join(f"{pin.name} {pin.version}" for pin in pins() if pin.name != "curl")
    )
    return int(bool(holes))


def main() -> int:
    command, *rest = sys.argv[1:] or [""]
    if command == "audit" and len(rest) <= 1:
        return audit(*(rest or [None]))
    if command == "table" and not rest:
        print(table())
        return 0
    if command == "built" and len(rest) == 2:
        built(Path(rest[0]), rest[1])
        return 0
    if command == "check" and len(rest) <= 1:
        found = release_faults()
        if audited := audit(*(rest or [None])):
            found.append(
                "the audit was not done: `make release-check ARGS=vuln.json`"
                if audited == 3
                else "the pinned libcurl has known holes, see above"
            )
        for line in found:
            print(f"release-check: {line}")
        print(f"release-check: {project_version()}: {'not ready' if found else 'ready'}")
        return int(bool(found))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
