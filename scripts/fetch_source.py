"""Gets the source of a pinned library: from a cache, its upstream, or Debian's source packages.

Used by build_deps.py. Standard library only. Whatever the way, a file counts only when its SHA-256
is the pinned one; that is why an expired or unsigned package list does no harm. apt runs with
state and lists of its own below the cache, so nothing of the system changes. A machine without
any network can be given the files: put them into the cache directory under any name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "scripts" / "pins.toml"
SUITES = ("trixie", "forky", "sid")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT_HELPER = "/usr/lib/apt/apt-helper"


@dataclass(frozen=True)
class Pin:
    """One library: what scripts/pins.toml says of it."""

    name: str
    version: str
    url: str
    sha256: str
    debian: str
    debian_sha256: str

    @property
    def accepted(self) -> tuple[str, ...]:
        return (self.sha256, self.debian_sha256)


def pins() -> list[Pin]:
    """All pinned libraries, in the order of building."""
    content = tomllib.loads(PINS.read_text())
    return [
        Pin(
            name,
            entry["version"],
            entry["url"],
            entry["sha256"],
            entry["debian"],
            entry.get("debian_sha256", entry["sha256"]),
        )
        for name, entry in content.items()
    ]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(pin: Pin, cache: Path) -> Path:
    """The library's tarball in `cache`. SystemExit with one sentence if there is no way to it."""
    cache.mkdir(parents=True, exist_ok=True)
    for path in sorted(cache.glob("*.tar.*")):
        if digest(path) in pin.accepted:
            return path
    tried = []
    for way in (from_upstream, from_debian):
        try:
            path = way(pin, cache)
        except (OSError, subprocess.CalledProcessError, LookupError) as exc:
            tried.append(f"{way.__name__.removeprefix('from_')}: {exc}")
            continue
        found = digest(path)
        if found in pin.accepted:
            return path
        path.unlink()
        tried.append(f"{way.__name__.removeprefix('from_')}: its SHA-256 is {found}")
    raise SystemExit(
        f"deps: no source of {pin.name} {pin.version} can be had ({'; '.join(tried)}). "
        f"Put its tarball into {cache}, the SHA-256 must be {pin.sha256}."
    )


def from_upstream(pin: Pin, cache: Path) -> Path:
    if os.environ.get("LLMCURL_UPSTREAM", "1") == "0":
        raise LookupError("switched off")
    path = cache / f"{pin.name}-{pin.version}.tar.gz"
    part = path.with_suffix(".part")
    with urllib.request.urlopen(pin.url, timeout=15) as answer, part.open("wb") as file:
        shutil.copyfileobj(answer, file)
    part.rename(path)
    return path


def from_debian(pin: Pin, cache: Path) -> Path:
    if not shutil.which("apt-get"):
        raise LookupError("no apt here")
    env = {**os.environ, "APT_CONFIG": str(apt_config(cache / "apt"))}
    version = debian_version(pin, env)
    listed = output(["apt-get", "--print-uris", "source", f"{pin.debian}={version}"], env)
    for line in listed.splitlines():
        if match := re.fullmatch(r"'(\S+)' (\S+) \d+ SHA256:([0-9a-f]{64})", line.strip()):
            uri, name, sha256 = match.groups()
            if sha256 == pin.debian_sha256:
                # only the upstream tarball: Debian's own part of a package comes and goes
                output(
                    [APT_HELPER, "download-file", uri, str(cache / name), f"SHA256:{sha256}"], env
                )
                return cache / name
    raise LookupError(f"{pin.debian} {version} does not list its tarball")


def debian_version(pin: Pin, env: dict[str, str]) -> str:
    """The package version that brings the pinned tarball, whatever Debian's revision of it."""
    for stanza in output(["apt-cache", "showsrc", pin.debian], env).split("\n\n"):
        if pin.debian_sha256 in stanza and (found := re.search(r"^Version: (\S+)$", stanza, re.M)):
            return found.group(1)
    raise LookupError(f"no version of {pin.debian} in {', '.join(SUITES)} has the pinned tarball")


def output(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LookupError(done.stderr.strip().rpartition("\n")[2] or f"{command[0]} failed")
    return done.stdout


def debian_mirror() -> str:
    """The mirror that the system's own apt uses."""
    command = ["apt-get", "indextargets", "Created-By: Packages", "--format"]
    listed = output([*command, "$(REPO_URI)"], dict(os.environ))
    for uri in listed.splitlines():
        if re.search(r"/debian/?$", uri.strip()):
            return uri.strip()
    raise LookupError("apt's sources name no Debian mirror")


def apt_config(directory: Path) -> Path:
    """An apt configuration for source packages of newer Debians, with its lists up to date."""
    config = directory / "apt.conf"
    if config.exists():
        return config
    for name in ("state/lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    # every file is compared with its pinned SHA-256, so a list need not be signed or fresh
    trust = f"signed-by={KEYRING}" if KEYRING.exists() else "trusted=yes"
    mirror = debian_mirror()
    sources = directory / "sources.list"
    sources.write_text("".join(f"deb-src [{trust}] {mirror} {suite} main\n" for suite in SUITES))
    draft = directory / "apt.conf.new"
    draft.write_text(
        f'Dir::State "{directory}/state";\n'
        f'Dir::Cache "{directory}/cache";\n'
        f'Dir::Etc::sourcelist "{sources}";\n'
        'Dir::Etc::sourceparts "-";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::Languages "none";\n'
        'APT::Sandbox::User "";\n'
    )
    print("deps: reading the lists of Debian's source packages", file=sys.stderr)
    output(["apt-get", "update", "-qq"], {**os.environ, "APT_CONFIG": str(draft)})
    draft.rename(config)
    return config
