# Prepares what a kernel needs on a host: our programs, and a Python with ipykernel. Read from standard input by sh,
# after lines that set: key python env hash program wheels. Says one line that begins with "colab_magics-prepared:".
set -u
umask 077
cache="${XDG_CACHE_HOME:-$HOME/.cache}/colab_magics"
own="$cache/env/$key.d"
log="$cache/env/$key.log"

say() { printf 'colab_magics-prepared: %s\n' "$1"; exit 0; }

mkdir -p "$cache/env" "$cache/relay" && chmod 700 "$cache" || say "error $cache cannot be made"
if [ ! -d "$cache/relay/$hash" ]; then
  new=$(mktemp -d "$cache/relay/.XXXXXX") || say "error $cache/relay cannot be written"
  printf %s "$program" | base64 -d | tar -xzf - -C "$new" || say "error the programs cannot be unpacked (base64, tar)"
  mv "$new" "$cache/relay/$hash" 2>/dev/null || rm -r "$new"
fi

serves() { "$1" -c 'import sys, zmq, ipykernel; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1; }
is_python() { [ -x "$1" ] && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1; }
keep() { printf '%s\n' "$1" > "$cache/env/$key.new" && mv "$cache/env/$key.new" "$cache/env/$key" && say "ready $1"; }

of_conda() {
  if [ -r "$HOME/.conda/environments.txt" ]; then
    while IFS= read -r folder; do
      [ "${folder##*/}" = "$1" ] && printf '%s\n' "$folder" && return
    done < "$HOME/.conda/environments.txt"
  fi
  conda=$(command -v conda || true)
  for base in "${CONDA_PREFIX:-/none}" "${MAMBA_ROOT_PREFIX:-/none}" "${conda%/*/*}" "$HOME"/miniconda3 "$HOME"/anaconda3 "$HOME"/miniforge3 "$HOME"/mambaforge \
    "$HOME"/micromamba /opt/conda /opt/miniconda3 /opt/anaconda3; do
    [ -d "$base/envs/$1" ] && printf '%s\n' "$base/envs/$1" && return
    [ "$1" = base ] && [ -d "$base/conda-meta" ] && printf '%s\n' "$base" && return
  done
}

if [ -n "$env" ]; then
  folder="$env"
  case "$env" in
    conda:*/*) folder="${env#conda:}" ;;
    conda:*) folder=$(of_conda "${env#conda:}") ;;
  esac
  case "$folder" in "~/"*) folder="$HOME/${folder#"~/"}" ;; esac
  [ -n "$folder" ] || say "no-env"
  found="$folder/bin/python"
  [ -d "$folder" ] || found="$folder"
  is_python "$found" || say "no-env"
  serves "$found" || say "no-ipykernel $found"
  keep "$found"
fi

[ -x "$own/bin/python" ] && serves "$own/bin/python" && keep "$own/bin/python"
: > "$log"

uv=$(command -v uv || true)
for one in "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; do
  [ -z "$uv" ] && [ -x "$one" ] && uv="$one"
done

made=
if [ -n "$uv" ] && [ -z "$wheels" ]; then
  "$uv" venv --quiet --seed --allow-existing ${python:+--python "$python"} "$own" >>"$log" 2>&1 && made=1
  [ -n "$made" ] && "$uv" pip install --quiet --python "$own/bin/python" ipykernel >>"$log" 2>&1 \
    && serves "$own/bin/python" && keep "$own/bin/python"
fi
if [ -z "$made" ] && [ ! -x "$own/bin/python" ]; then
  base=
  if [ -n "$python" ]; then
    for one in "$(command -v "python$python" || true)" "$HOME/.pyenv/versions/$python/bin/python" \
      "$HOME/.pyenv/versions/$python".*/bin/python "$(command -v python3 || true)"; do
      [ -z "$base" ] && is_python "$one" && base="$one"
    done
    case "$base" in */python3)
      "$base" -c "import sys; sys.exit('.'.join(map(str, sys.version_info[:2])) != '$python')" || base= ;;
    esac
  else
    for one in "$(command -v python3 || true)" /usr/bin/python3 "$HOME"/.pyenv/versions/3.*/bin/python; do
      [ -z "$base" ] && is_python "$one" && base="$one"
    done
  fi
  [ -n "$base" ] || say "no-python"
  # Debian's python3 has no ensurepip without a further package.
  "$base" -m venv "$own" >>"$log" 2>&1 || "$base" -m venv --without-pip "$own" >>"$log" 2>&1 \
    || say "error no virtual environment can be made by $base: $(tail -n 1 "$log")"
fi

there="$own/bin/python"
if [ -n "$wheels" ]; then
  pip=
  for one in "$cache/wheels/$wheels"/pip-*.whl; do pip="$one/pip"; done
  "$there" "$pip" install --quiet --no-index --find-links "$cache/wheels/$wheels" ipykernel >>"$log" 2>&1 \
    || say "error $(tail -n 3 "$log" | tr '\n' ' ')"
else
  "$there" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 ipykernel >>"$log" 2>&1 \
    || say "no-network $("$there" -c 'import platform; print(platform.python_version(), platform.machine(), platform.libc_ver()[1])')"
fi
serves "$there" && keep "$there"
say "error ipykernel does not work there: $("$there" -c 'import zmq, ipykernel' 2>&1 | tail -n 1)"
