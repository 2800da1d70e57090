"""The parts of MusicFS whose logs can have their own levels.

Their names are fixed: a configuration that names one stays valid when files move.
"""

from __future__ import annotations

PARTS = (
    "app",
    "cache",
    "catalog",
    "cli",
    "config",
    "content",
    "control",
    "daemon",
    "events",
    "federation",
    "library",
    "maintenance",
    "mount",
    "origins",
    "origins.local",
    "origins.nfs",
    "origins.s3",
    "origins.sftp",
    "origins.smb",
    "system",
    "tags",
)
"""Each is also the name of a logger, without the package's name, and covers the loggers below it."""

_FORMER = {
    "content.blockdisk": "cache.disk",
    "content.blocks": "cache.store",
    "content.cachetrouble": "cache.breaker",
    "content.checksums": "content.checksums",
    "content.comparing": "maintenance.scrub",
    "content.pinlist": "maintenance.pin_store",
    "content.pinning": "maintenance.pins",
    "content.retag": "content.retag",
    "control.answers": "control.responses",
    "control.endpoint": "control.unix_socket",
    "control.server": "control.server",
    "control.webhooks": "control.webhooks",
    "federation.failover": "federation.outcome",
    "federation.fetching": "federation.outcome",
    "federation.health": "federation.health",
    "federation.probing": "federation.probe",
    "federation.registry": "federation.registry",
    "library.analysis": "library.parse_pool",
    "library.scanner": "library.scanner",
    "library.service": "library.client",
    "library.watcher": "library.watcher",
    "library.worker": "library.worker",
    "membership": "app.membership",
    "mount.fuse": "mount.fuse",
    "origins.watch": "origins.local.watch",
    "service": "daemon.systemd",
    "systemd": "daemon.systemd",
}
"""Former parts, and the loggers that log now what they logged."""

_SILENT = """
cli.caching cli.completion cli.following cli.inspecting cli.main cli.mounting cli.offline cli.origins cli.output
cli.page cli.pinning cli.redundancy cli.scanning cli.settings cli.verifying config_file config_kinds config_models
config_sources content.audioregion content.blockindex content.checking content.checkstore content.comparelist
content.knownblocks content.readahead content.reader content.seals content.verdict content.verifying
content.writequeue control.client control.elsewhere control.gate control.latencies control.metrics
control.pagelistener control.routes control.routes.cache control.routes.description control.routes.events
control.routes.library control.routes.metrics control.routes.mount control.routes.origins control.routes.page
control.routes.pins control.routes.playing control.routes.redundancy control.routes.verify control.views control.why
errors federation.bandwidth federation.hedging federation.merging federation.quarantine federation.router
federation.state federation.traffic library.catalog library.database library.examining library.finding
library.foldertimes library.formats library.identity library.lean library.messages library.names library.placing
library.predecessors library.ranges library.reach library.redundancy library.rows library.tagnames library.tags
library.templates library.tree library.treeview logs model mount.counting mount.filesystem mount.fuseloop
mount.points mount.trioless mount.variants origins.base origins.kinds origins.libraries origins.linux
origins.listing origins.nfs.driver origins.nfs.files origins.nfs.libnfs origins.nfs.places origins.nfs.rpc
origins.nfs.sessions origins.nfs.settings origins.openfiles origins.s3.client origins.s3.driver origins.s3.keys
origins.s3.listing origins.s3.parts origins.s3.settings origins.s3.signing origins.sftp.dialling origins.sftp.driver
origins.sftp.listing origins.sftp.session origins.sftp.settings origins.smb.driver origins.smb.failures
origins.smb.files origins.smb.session origins.smb.settings origins.smb.transport origins.smb.wire origins.threads
origins.watchedfolders reconfiguring runtime secrets
"""
"""Former parts that have never logged anything."""


def is_part(name: str) -> bool:
    """Whether a configuration may name it: it is a part, or a former one."""
    return name in PARTS or name in _FORMER or name in _SILENT.split()


def logger_of(name: str) -> str | None:
    """Returns the logger whose level the part sets, without the package's name, or None."""
    return name if name in PARTS else _FORMER.get(name)


def hint_about(name: str) -> str | None:
    """Returns what to do about a former part, to end a sentence with; None for a present one."""
    if name in PARTS:
        return None
    logger = _FORMER.get(name)
    if logger is None:
        return "nothing is logged under this name; leave it out"
    part = max((part for part in PARTS if f"{logger}.".startswith(f"{part}.")), key=len)
    return f"this is a former name; the part is called {part} now"
