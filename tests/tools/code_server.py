"""What stands in for code-server, which is no Python package: its options, its settings, and whom it lets in.

As a program: ``code_server.py FOLDER [options of code-server]``; with a file ``open`` in FOLDER it lets in everybody.
"""

from __future__ import annotations

import http.server
import os
import re
import sys
from pathlib import Path

import pytest


def on_the_path(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program ``code-server`` on the PATH, and return it."""
    folder = tmp / "programs"
    folder.mkdir()
    program = folder / "code-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {folder} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return program


def main() -> None:
    """Serve as its settings say."""
    text = Path(sys.argv[sys.argv.index("--config") + 1]).read_text()
    settings = dict(re.findall(r"^([\w-]+): (.*)$", text, re.M))
    address, _, port = settings["bind-addr"].partition(":")
    password = os.environ.get("PASSWORD", settings["password"])
    for_all = settings["auth"] != "password" or Path(sys.argv[1], "open").exists()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Cookie") == f"key={password}" or for_all
            self.send_response(200 if known or self.path == "/healthz" else 302)
            if not known:
                self.send_header("Location", "./login")
            self.end_headers()

    print("Using password from the configuration", flush=True)
    http.server.HTTPServer((address, int(port)), Page).serve_forever()


if __name__ == "__main__":
    main()
