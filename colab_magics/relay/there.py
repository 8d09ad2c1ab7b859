"""The program that runs on the host: ``python FOLDER attach|serve WORDS``, where FOLDER holds what was shipped."""

from __future__ import annotations

import sys


def main() -> None:
    """Do as the arguments say."""
    if sys.argv[1] == "attach":
        from . import attach

        attach.main(sys.argv[2])
    else:
        import binascii
        import json

        from . import serving

        serving.serve(json.loads(binascii.a2b_base64(sys.argv[2])), int(sys.argv[3]))
