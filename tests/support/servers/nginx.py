"""nginx over a folder, for WebDAV alone; Debian's libnginx-mod-http-dav-ext gives it PROPFIND."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from tests.support.servers.process import HOST, Server, free_port

USER = "me"
PASSWORD = "not so secret"

_CONF = """\
load_module {modules}/ngx_http_dav_ext_module.so;
daemon off;
worker_processes 1;
{account}
pid {state}/pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {state}/body;
    proxy_temp_path {state}/proxy;
    fastcgi_temp_path {state}/fastcgi;
    uwsgi_temp_path {state}/uwsgi;
    scgi_temp_path {state}/scgi;
    server {{
        listen {host}:{port};
        root {root};
        auth_basic music;
        auth_basic_user_file {state}/users;
        dav_ext_methods PROPFIND OPTIONS;
        location /open/ {{ auth_basic off; alias {root}/; }}
    }}
}}
"""
_MODULES = Path("/usr/lib/nginx/modules")


class Nginx(Server):
    """Serves `root` to USER with PASSWORD; the same folder is at /open/ for all.

    Files have to be readable by others: where the tests run as root the server's workers do not, so that modes count.
    """

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="musicfs-nginx-"))
        self.base.chmod(0o755)  # unlike pytest's folders, which are closed to other users
        self.root = self.base / "root"
        self._state = self.base / "state"
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "there is no nginx: run scripts/setup"
        command = [program, "-c", str(self.base / "nginx.conf"), "-e", "stderr"]
        super().__init__(command, free_port(), self.base / "log")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Nginx:
        self.root.mkdir()
        self._state.mkdir()
        account = f"user {pwd.getpwnam('games').pw_name};" if os.geteuid() == 0 else ""
        conf = _CONF.format(
            modules=_MODULES, account=account, state=self._state, host=HOST, port=self.port, root=self.root
        )
        (self.base / "nginx.conf").write_text(conf)
        digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
        (self._state / "users").write_text(f"{USER}:{{SHA}}{digest}\n")
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self.base, ignore_errors=True)
