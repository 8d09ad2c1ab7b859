"""The program that runs on the host: ``python FOLDER attach|serve WORDS``, where FOLDER holds what was shipped."""

from __future__ import annotations

import base64
import json
import sys


def main() -> None:
    """Do as the arguments say."""
    if sys.argv[1] == "attach":
        from . import attach

        attach.main(sys.argv[2])
    else:
        from . import kernel_relay

        kernel_relay.serve(json.loads(base64.urlsafe_b64decode(sys.argv[2])), int(sys.argv[3]))
