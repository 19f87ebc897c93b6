"""nginx in front of the replicas, with the configuration that operators are given: `deploy/nginx.conf`.

with running_nginx(tmp_path, [8081, 8082, 8083]) as url:
    Client(f"{url}/echo/mcp")
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.fleet.processes import ROOT, running
from tests.redis.servers import free_port
from tests.tools.install import nginx

GIVEN = ROOT / "deploy" / "nginx.conf"
EXAMPLES = ("server 127.0.0.1:8081 ", "server 127.0.0.1:8082 ", "server 127.0.0.1:8083 ")

# Around the configuration, as a distribution's nginx.conf is; nothing outside the folder is written.
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  {temporary}
  include {folder}/mcp-gateway.conf;
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def write_configuration(folder: Path, port: int, ports: Sequence[int]) -> Path:
    """The file to start nginx with: what operators are given, with these addresses in place of the examples."""
    text = GIVEN.read_text()
    replaced = {"listen 8080;": f"listen 127.0.0.1:{port};"}
    replaced |= {old: f"server 127.0.0.1:{new} " for old, new in zip(EXAMPLES, ports, strict=True)}
    for old, new in replaced.items():
        assert text.count(old) == 1, f"{GIVEN.name} says {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    (folder / "mcp-gateway.conf").write_text(text)
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
    file = folder / "nginx.conf"
    file.write_text(AROUND.format(folder=folder, temporary=temporary))
    return file


def check_configuration(folder: Path, ports: Sequence[int]) -> str:
    """What nginx says of the configuration, without serving it."""
    file = write_configuration(folder, free_port(), ports)
    command = [str(nginx()), "-t", "-e", "stderr", "-p", str(folder), "-c", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@contextmanager
def running_nginx(folder: Path, ports: Sequence[int]) -> Iterator[str]:
    """Serves the replicas at these ports until the block is left; its URL."""
    port = free_port()
    file = write_configuration(folder, port, ports)
    command = [str(nginx()), "-e", "stderr", "-p", str(folder), "-c", str(file)]
    with running(command, name="nginx") as child:
        child.wait_for_line("start worker process ")  # which is when it listens
        yield f"http://localhost:{port}"
