"""``%remote`` in a real JupyterLab, over a real ssh: plots, progress and errors of another machine in this notebook."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sshd import sshd

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser

PNG = (
    "import struct, zlib\nfrom IPython.display import Image, display\n"
    "def part(kind, data):\n"
    "    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))\n"
    "raw = b''.join(b'\\0' + b''.join(bytes((x, y, 120)) for x in range(120)) for y in range(60))\n"
    "data = part(b'IHDR', struct.pack('>IIBBBBB', 120, 60, 8, 2, 0, 0, 0)) + part(b'IDAT', zlib.compress(raw))\n"
    "display(Image(b'\\x89PNG\\r\\n\\x1a\\n' + data + part(b'IEND', b'')))"
)


def test_cells_of_another_machine(lab: Lab, tmp_path: Path, home: Path) -> None:
    with sshd(tmp_path, session_home=home) as server:
        (lab.root / "remote").mkdir(exist_ok=True)
        lab.write(
            "remote/t.ipynb",
            f"import os\nos.environ['COLAB_MAGICS_SSH_CONFIG'] = {str(server.config_file)!r}\n"
            "%load_ext colab_magics\nhere = os.getpid()",
            f"%remote box env={sys.executable}",
            "import os\nstate = os.getpid()\nprint('there', state)",
            PNG,
            "from IPython.display import ProgressBar\nbar = ProgressBar(4)\nfor step in bar:\n    pass",
            "%%local\nprint('here', here == os.getpid())",
            "%remote pull state\nprint(state != here)",
            "%remote off",
            "1 / 0",
        )
        lab.open("remote/t.ipynb")
        lab.run_all()
        lab.page.screenshot(path=tmp_path / "remote.png", full_page=True)
        assert "box: connected" in lab.said(1), lab.story()
        assert "⇢ box" in lab.said(2)
        assert "there" in lab.said(2)
        pictures = [output for output in lab.cells()[3]["outputs"] if "image/png" in output.get("data", {})]
        assert pictures, lab.story()
        assert "here True" in lab.said(5)
        assert "True" in lab.said(6)
        assert "keeps" in lab.said(7)
        assert "ZeroDivisionError" in lab.said(8)
        assert "⇢" not in lab.said(8)
