"""A real git server on the loopback: ``git http-backend`` behind a small http server that asks for a password."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class GitServer:
    """A running server.

    Parameters
    ----------
    url : str
        Its address, without a slash at the end.
    logins : list of str
        The user names and passwords (``user:password``) that clients sent.
    """

    url: str
    logins: list[str] = field(default_factory=list)


@contextmanager
def git_server(root: Path, *, password: str | None, moved_to: str | None = None) -> Iterator[GitServer]:
    """Serve the bare repositories below `root` until the block ends.

    Parameters
    ----------
    root : Path
        The folder with the repositories.
    password : str or None
        What every client must send; None serves all.
    moved_to : str, optional
        Address of another server to redirect every request to.
    """

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            if moved_to is not None:
                self.send_response(302)
                self.send_header("Location", moved_to + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            login = self.headers.get("Authorization", "").removeprefix("Basic ")
            given = base64.b64decode(login).decode() if login else ""
            if given:
                server.logins.append(given)
            if password is not None and given.partition(":")[2] != password:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.backend()

        def backend(self) -> None:
            path, _, query = self.path.partition("?")
            env = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in {**fields, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = GitServer(f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
