"""OpenStack Swift, which speaks S3: a proxy before three stores and a memcached, all in the foreground on loopback.

It lives in a virtual environment of its own, .venv-swift, which scripts/setup makes. Tests fill it by Swift's own
protocol, so that what they put there does not depend on the S3 that they test.
"""

from __future__ import annotations

import getpass
import hashlib
import http.client
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.support.servers import swift_policy
from tests.support.servers.process import HOST, PATIENCE, Server, free_port

ROOT = Path(__file__).parents[3]
ACCESS_KEY_ID = "test:tester"
SECRET_ACCESS_KEY = "not-a-secret"
_ACCOUNT = "/v1/AUTH_test"
_STORES = ("account", "container", "object")
_SEGMENT = 64 << 20
_AT_ONCE = 4
_SUFFIX = "music"

_COMMON = """\
[DEFAULT]
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {home}
devices = {home}/disks
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
log_level = WARNING
log_address = {home}/no-log
"""
_PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth policy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = {host}:{memory}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:policy]
paste.filter_factory = swift_policy:factory
denied = {home}/denied
"""
_PLAIN_FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "slo", "dlo")
_RINGS = """\
import sys
from swift.common.ring import RingBuilder
home, host, *stores = sys.argv[1:]
for store in stores:
    name, _, port = store.partition("=")
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": host, "port": int(port), "device": "disk", "weight": 1.0,
                     "replication_ip": host, "replication_port": int(port), "meta": ""})
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{home}/{name}.ring.gz")
"""


class Swift:
    """The five processes over the empty folder `home`. As a context manager it is gone at the end.

    front: the proxy, the one that clients talk to. Killing, stopping and starting it is enough to have S3 go away.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._bin = ROOT / ".venv-swift/bin"
        self._ports = {name: free_port() for name in (*_STORES, "proxy", "memory")}
        environ = {"PATH": f"{self._bin}:/usr/bin:/bin", "PYTHONPATH": str(home / "lib"), "LANG": "C.UTF-8"}
        self._stores = [self._server(name, environ) for name in _STORES]
        self.front = self._server("proxy", environ)
        memory = shutil.which("memcached")
        assert memory is not None, "there is no memcached: run scripts/setup"
        command = [memory, "-u", getpass.getuser(), "-l", HOST, "-p", str(self._ports["memory"])]
        self._memory = Server(command, self._ports["memory"], home / "memory.log")
        self._stack = ExitStack()
        self._token = ""
        self._numbers = itertools.count(1)

    @property
    def objects(self) -> Server:
        """The store that has the objects' bytes."""
        return self._stores[-1]

    @property
    def port(self) -> int:
        return self.front.port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Swift:
        assert (self._bin / "swift-proxy-server").exists(), "there is no Swift in .venv-swift: run scripts/setup"
        self._prepare()
        servers = (*self._stores, self.front, self._memory)
        with ExitStack() as stack, ThreadPoolExecutor(len(servers)) as pool:
            stack.callback(_end, servers)
            list(pool.map(Server.start, servers))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def make_bucket(self) -> str:
        """A new one; its name."""
        name = f"music-{next(self._numbers)}"
        self._ask("PUT", name)
        return name

    def remove_bucket(self, name: str) -> None:
        """It has to be empty."""
        self._ask("DELETE", name)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self._ask("PUT", f"{bucket}/{key}", data)

    def put_all(self, bucket: str, files: Mapping[str, bytes]) -> None:
        """Many at once: straight to the stores, as the proxy does, which alone costs more than both."""
        keys = list(files)

        def put_some(share: int) -> None:
            with closing(http.client.HTTPConnection(HOST, self._ports["object"], timeout=PATIENCE)) as connection:
                for key in keys[share::_AT_ONCE]:
                    self._store(connection, bucket, key, files[key])

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(put_some, range(min(_AT_ONCE, len(keys)))))

    def put_sparse(self, bucket: str, key: str, size: int, at: int, data: bytes) -> None:
        """An object of `size` zeros but for `data` at `at`: made of one stored piece of zeros, repeated."""
        self._ask("PUT", f"{bucket}-pieces")
        self.put(f"{bucket}-pieces", "zeros", bytes(_SEGMENT))
        self.put(f"{bucket}-pieces", "data", data)
        pieces = [*_zeros(f"{bucket}-pieces", at), {"path": f"{bucket}-pieces/data"}]
        pieces += _zeros(f"{bucket}-pieces", size - at - len(data))
        self._ask("PUT", f"{bucket}/{key}", json.dumps(pieces).encode(), "?multipart-manifest=put")

    def remove(self, bucket: str, key: str) -> None:
        self._ask("DELETE", f"{bucket}/{key}")

    def keys(self, bucket: str) -> list[str]:
        return list(self.versions(bucket))

    def versions(self, bucket: str) -> dict[str, tuple[str, str]]:
        """The MD5 and the time of every key."""
        found: dict[str, tuple[str, str]] = {}
        while page := json.loads(
            self._ask("GET", bucket, query=f"?format=json&marker={quote(next(reversed(found), ''))}")
        ):
            found |= {entry["name"]: (entry["hash"], entry["last_modified"]) for entry in page}
        return found

    @contextmanager
    def denied(self, path: str) -> Iterator[None]:
        """While it lasts, no one may read "bucket/key", or anything in "bucket/folder"."""
        (self.home / "denied").write_text(path)
        try:
            yield
        finally:
            (self.home / "denied").write_text("")

    def _prepare(self) -> None:
        for folder in ("disks/disk", "lib"):
            (self.home / folder).mkdir(parents=True)
        shutil.copy(swift_policy.__file__, self.home / "lib")
        (self.home / "denied").touch()
        (self.home / "swift.conf").write_text(
            f"[swift-hash]\nswift_hash_path_suffix = {_SUFFIX}\n[storage-policy:0]\nname = only\ndefault = yes\n"
        )
        for name in (*_STORES, "proxy"):
            (self.home / f"{name}.conf").write_text(self._settings(name))
        stores = [f"{name}={self._ports[name]}" for name in _STORES]
        command = [str(self._bin / "python"), "-c", _RINGS, str(self.home), HOST, *stores]
        subprocess.run(command, check=True, timeout=PATIENCE)

    def _settings(self, name: str) -> str:
        text = _COMMON
        if name == "proxy":
            text += _PROXY + "".join(f"[filter:{each}]\nuse = egg:swift#{each}\n" for each in _PLAIN_FILTERS)
        else:
            text += f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        return text.format(
            host=HOST, port=self._ports[name], user=getpass.getuser(), home=self.home,
            memory=self._ports["memory"], secret=SECRET_ACCESS_KEY,
        )  # fmt: skip

    def _server(self, name: str, environ: Mapping[str, str]) -> Server:
        command = [str(self._bin / f"swift-{name}-server"), str(self.home / f"{name}.conf"), "-v"]
        ready = self._serves if name == "proxy" else None
        return Server(command, self._ports[name], self.home / f"{name}.log", ready=ready, environ=environ)

    def _serves(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._ports["proxy"], timeout=1)
        try:
            connection.request("GET", "/healthcheck")
            return connection.getresponse().read() == b"OK"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _store(self, connection: http.client.HTTPConnection, bucket: str, key: str, data: bytes) -> None:
        path = f"/AUTH_test/{bucket}/{key}"
        headers = {
            "X-Timestamp": f"{time.time():.5f}",
            "Content-Type": "application/octet-stream",
            "X-Container-Host": f"{HOST}:{self._ports['container']}",
            "X-Container-Partition": str(_partition(f"/AUTH_test/{bucket}")),
            "X-Container-Device": "disk",
        }
        connection.request("PUT", quote(f"/disk/{_partition(path)}{path}"), data, headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 201, f"{path!r}: {answer.status} {body!r}"

    def _ask(self, method: str, path: str, data: bytes = b"", query: str = "") -> bytes:
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)) as connection:
            headers = {"X-Auth-Token": self._let_in(connection)}
            connection.request(method, f"{_ACCOUNT}/{quote(path)}{query}", data, headers)
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status < 300, f"{method} {path!r}: {answer.status} {body[:500]!r}"
        return body

    def _let_in(self, connection: http.client.HTTPConnection) -> str:
        if not self._token:
            headers = {"X-Auth-User": ACCESS_KEY_ID, "X-Auth-Key": SECRET_ACCESS_KEY}
            connection.request("GET", "/auth/v1.0", headers=headers)
            answer = connection.getresponse()
            answer.read()
            self._token = answer.headers["X-Auth-Token"]
        return self._token


def _end(servers: Sequence[Server]) -> None:
    """All at once: each takes its time."""
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(Server.end, servers))


def _partition(path: str) -> int:
    """Which of the rings' sixteen parts has the path."""
    return hashlib.md5(f"{path}{_SUFFIX}".encode()).digest()[0] >> 4


def _zeros(bucket: str, count: int) -> list[dict[str, str]]:
    pieces = [{"path": f"{bucket}/zeros"}] * (count // _SEGMENT)
    return [*pieces, {"path": f"{bucket}/zeros", "range": f"0-{count % _SEGMENT - 1}"}] if count % _SEGMENT else pieces
