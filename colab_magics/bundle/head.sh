#!/bin/sh
# A bundle made by colab_magics: a command with its code and its packages, for a machine without a network.
# "sh THIS_FILE --help" says what is in it and how it is started. Behind this script stands a zip archive.
wanted='@PYTHON@'
is_new() { command -v "$1" >/dev/null 2>&1 && "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; }
fits() {
  is_new "$1" && { [ -z "$wanted" ] || "$1" -I -c 'import sys
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$wanted" 2>/dev/null; }
}
go() {
  p=$1; shift
  # Not by "python FILE": before Python 3.13 that starts no archive of more than 2 GB.
  exec "$p" -I -c 'import sys, zipfile; sys.argv = sys.argv[1:]
exec(compile(zipfile.ZipFile(sys.argv[0]).read("colab_magics_bundle.py"), sys.argv[0], "exec"))
sys.exit(main())' "$@"
}
for one in "python${wanted:-3}" python3 python "$HOME/.pyenv/versions/$wanted".*/bin/python \
  "$HOME/.local/share/uv/python/cpython-$wanted"*/bin/python3; do
  fits "$one" && go "$one" "$0" "$@"
done
# Any Python says what is missing.
for one in python3 python; do is_new "$one" && go "$one" "$0" "$@"; done
echo "There is no Python ${wanted:-3.8 or newer} here, which this bundle needs." >&2
exit 125
