"""The results of all parts in one file, measured together or one after the other, and the document made of it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.parts import PARTS

_VERSIONS = {
    "mergerfs": ["mergerfs", "--version"],
    "unionfs-fuse": ["unionfs", "--version"],
    "rclone": ["rclone", "version"],
    "sshfs": ["sshfs", "--version"],
    "s3fs": ["s3fs", "--version"],
    "MPD": ["mpd", "--version"],
    "beets": ["beet", "version"],
    "OpenSSH": ["ssh", "-V"],
    "Samba": ["smbd", "--version"],
}
_ABOUT = """\
# Benchmarks

`make bench` makes this page (`bench/` measures; no number of a table is typed by hand). Contenders take turns within
each round. A cell is the median of the rounds, with the least and the most in brackets. Peers run with their own
defaults and what they need to work at all. Ratios compare with the best peer of the row: over 1, MusicFS is ahead; the
tables include the rows that it loses. Servers, contenders and readers share one machine.
"""


def machine() -> dict[str, Any]:
    """Returns a description of the machine."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    return {
        "processor": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "system": next((line[13:-1] for line in _lines("/etc/os-release") if line.startswith("PRETTY_NAME=")), ""),
        "python": platform.python_version(),
        "versions": {name: _version(command) for name, command in _VERSIONS.items()},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(command: list[str]) -> str:
    """Returns the first line with a digit of what the program prints."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "not installed"
    lines = (done.stdout + done.stderr).splitlines()
    found = [line.strip() for line in lines if any(map(str.isdigit, line)) and "fusermount" not in line]
    return found[0] if found else "unknown"


def load(path: Path) -> dict[str, Any]:
    """Returns the earlier results; none at first."""
    return dict(json.loads(path.read_text())) if path.exists() else {"parts": {}}


def keep(path: Path, name: str, *, quick: bool, data: object, markdown: str, seconds: float) -> None:
    """Replaces the last result of a part, and keeps the other parts."""
    results = load(path)
    results["machine"] = machine()
    results["parts"][name] = {
        "date": time.strftime("%Y-%m-%d"), "quick": quick, "seconds": round(seconds), "load": os.getloadavg()[0],
        "data": data, "markdown": markdown,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1))
    new.replace(path)


def document(results: Mapping[str, Any]) -> str:
    """Returns all results so far as Markdown."""
    where = results["machine"]
    versions = "; ".join(f"{name}: {version}" for name, version in where["versions"].items())
    lines = [
        _ABOUT,
        f"{where['processor']}, {where['cores']} cores, {where['memory_gb']} GB; {where['system']}, Linux"
        f" {where['kernel']}, Python {where['python']}. {versions}.",
    ]
    for name, part in PARTS.items():
        if (found := results["parts"].get(name)) is not None:
            quick = ", quick" if found["quick"] else ""
            lines += ["", f"## {part.title}", "", f"{part.about} ({found['date']}{quick}.)".strip()]
            lines += ["", found["markdown"]]
    return "\n".join(lines) + "\n\n" + Path(__file__).with_name("explained.md").read_text()
