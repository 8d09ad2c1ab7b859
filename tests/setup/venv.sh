#!/bin/sh
# Make an environment with this checkout installed in it, or leave it alone if it is as it should be.
#   venv.sh FOLDER newest|colab EXTRAS [CONSTRAINTS]
set -eu
folder=${1:?usage: venv.sh FOLDER newest|colab EXTRAS [CONSTRAINTS]} kind=$2 extras=$3 constraints=${4:-}
here=$(dirname -- "$0")

# An environment knows its own path and its Python: a moved checkout or other requirements need a new one. What
# pyproject.toml says to ruff and the tools after it does not matter.
wish=$(echo "$PWD $extras"; (sed '/^\[tool\.ruff\]/,$d' pyproject.toml; cat ${constraints:+"$constraints"} "$0") | cksum)
if [ "$(cat "$folder/.complete" 2>/dev/null)" = "$wish" ] && "$folder/bin/python" -c 'import colab_magics' 2>/dev/null
then
    exit 0
fi

python=$(sh "$here/python.sh" "$kind")
echo "Making $folder with $("$python" --version) ($python); this takes a minute or two."
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    ${constraints:+--constraint "$constraints"} --editable ".[$extras]" </dev/null
echo "$wish" >"$folder/.complete"
