"""One file that runs a command elsewhere: its code and its packages, without a network.

The file is a script for ``sh`` (`head.sh`) with a zip archive behind it, and the archive is one that Python can start.
It holds ``manifest.json``, wheels, pip, and the contents of the code's files by their hashes; `start` runs there.
"""
