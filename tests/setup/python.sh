#!/bin/sh
# Print the path of a Python that can make environments.
#   python.sh newest   3.11 or later: $PYTHON, else python3, else the first of the known names and pyenv's versions
#   python.sh colab    the Python of Google Colab: 3.13, else 3.12
set -u

case ${1:-} in
newest) wanted="any" ;;
colab) wanted="3.13 3.12" ;;
*) echo "usage: python.sh newest|colab" >&2; exit 2 ;;
esac

# A name on the PATH may be a shim that leads nowhere, and Debian's python3 comes without ensurepip: ask each one.
ask='
import ensurepip, ssl, sys, venv
wanted = sys.argv[1]
if sys.version_info < (3, 11) or wanted not in ("any", "%d.%d" % sys.version_info[:2]):
    sys.exit(1)
print(sys.executable)'

for version in $wanted; do
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.14 python3.11 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python \
        "$HOME"/.local/share/uv/python/cpython-3.*/bin/python3; do
        "$candidate" -c "$ask" "$version" 2>/dev/null && exit 0
    done
done
exit 1
