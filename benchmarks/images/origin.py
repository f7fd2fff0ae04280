"""The origin: nginx on a core of its own, with and without latency, TLS, stragglers and faults."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import certifi

_MODULES = Path("/usr/lib/nginx/modules")
# Name of a server: its port, TLS, and what it does before it answers.
_SLEEP = "ngx.sleep(0.05)"
_SERVERS = {
    "http": (28080, False, ""),
    "http-50ms": (28050, False, _SLEEP),
    "https": (28443, True, ""),
    "https-50ms": (28453, True, _SLEEP),
    # 0.3 % of the responses take four seconds.
    "stragglers": (28055, False, "if math.random() < 0.003 then ngx.sleep(4) else ngx.sleep(0.05) end"),
    # 1 % answer 503; 1 % are cut in the middle of the body.
    "faults": (
        28056,
        False,
        "local luck = math.random() "
        "if luck < 0.01 then return ngx.exit(503) end "
        "if luck < 0.02 then ngx.req.set_header('X-Cut', '1') end",
    ),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """A running origin; `authorities` is what https clients must trust.

    The origin's certificate stands among the usual authorities there: reading them costs a client what it
    costs its user, who has more than one.
    """

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "origin.pem"

    @property
    def authorities(self) -> Path:
        return self.folder / "authorities.pem"

    def url(self, server: str) -> str:
        """The address of one of the servers."""
        port, tls, _ = _SERVERS[server]
        return f"{'https' if tls else 'http'}://127.0.0.1:{port}"

    def port(self, server: str) -> int:
        """The port of one of the servers."""
        return _SERVERS[server][0]


@contextmanager
def running(folder: Path, core: int | None) -> Iterator[Origin]:
    """Serve `folder/photos` until the block ends; on one core, if `core` says which."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists() or not (_MODULES / "ngx_http_lua_module.so").exists():
        raise SystemExit("needs nginx with lua: apt-get install nginx-light libnginx-mod-http-lua")
    origin = Origin(folder)
    if _answers(origin.port("http")):
        raise SystemExit(f"port {origin.port('http')} is taken, perhaps by an earlier run's nginx: stop it")
    _certify(origin)
    configuration = folder / "nginx.conf"
    configuration.write_text(_configuration(folder))
    pin = ["taskset", "-c", str(core)] if core is not None else []
    process = subprocess.Popen([*pin, nginx, "-p", str(folder), "-c", str(configuration)])
    try:
        _wait(origin.port("http"))
        yield origin
    finally:
        process.terminate()
        process.wait(10)


def _configuration(folder: Path) -> str:
    servers = "".join(
        f"""
  server {{
    listen 127.0.0.1:{port}{" ssl" if tls else ""} backlog=2048;
    {f"ssl_certificate {folder}/origin.pem; ssl_certificate_key {folder}/origin.key;" if tls else ""}
    root {folder};
    location / {{ {f"access_by_lua_block {{ {lua} }}" if lua else ""} }}
  }}"""
        for port, tls, lua in _SERVERS.values()
        if "X-Cut" not in lua
    )
    port, _, lua = _SERVERS["faults"]
    return f"""
load_module {_MODULES}/ndk_http_module.so;
load_module {_MODULES}/ngx_http_lua_module.so;
daemon off; master_process on; worker_processes 1; pid {folder}/nginx.pid; user root;
error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 1000000; keepalive_timeout 600; open_file_cache max=120000 inactive=600s;
  default_type image/jpeg;
  init_worker_by_lua_block {{ math.randomseed(7) }}{servers}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    root {folder};
    location / {{
      content_by_lua_block {{
        {lua}
        local file = io.open("{folder}" .. ngx.var.uri, "rb")
        if not file then return ngx.exit(404) end
        local body = file:read("*a")
        file:close()
        ngx.header["Content-Length"] = #body
        if ngx.req.get_headers()["X-Cut"] then
          ngx.print(body:sub(1, #body / 2))
          ngx.flush(true)
          return ngx.exit(ngx.ERROR)
        end
        ngx.print(body)
      }}
    }}
  }}
}}
"""


def _certify(origin: Origin) -> None:
    if origin.authorities.exists():
        return
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(origin.folder / "origin.key"), "-out", str(origin.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    origin.authorities.write_text(certifi.contents() + "\n" + origin.certificate.read_text())


def _wait(port: int) -> None:
    for _ in range(100):
        if _answers(port):
            return
        time.sleep(0.1)
    raise SystemExit("nginx did not start; see error.log in the folder")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
