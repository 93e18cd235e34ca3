# Sourced by the executables of this folder: finds or makes the Python environment.
# JAXMEDGEN_PYTHON names another interpreter (3.11 or newer) to make it with.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

find_python() {
  local candidate
  for candidate in "${JAXMEDGEN_PYTHON:-}" python3.12 python3.11 python3.13 python3 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
      2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11 or newer with venv found: install one (on Debian and Ubuntu with" \
    "python3-venv), or set JAXMEDGEN_PYTHON" >&2
  return 2
}

# make_environment EXTRAS: .venv at the root with the pinned packages, made again when they change;
# beside an NVIDIA GPU with JAX's build for it
make_environment() {
  local extras="$1" stamp wanted interpreter
  if [ -e /dev/nvidia0 ] && [ "${JAX_PLATFORMS:-}" != cpu ]; then extras="$extras,cuda"; fi
  stamp="$root/.venv/.jaxmedgen-$extras"
  wanted="$(cat "$root/setup.py" "$root/constraints.txt" | cksum)"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return
  fi
  interpreter="$(find_python)"
  echo "making the environment in .venv ($("$interpreter" --version), a few minutes once)" >&2
  [ -x "$root/.venv/bin/python" ] || "$interpreter" -m venv "$root/.venv"
  "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/constraints.txt" --editable "$root[$extras]" ||
    { echo "error: pip could not install the packages: see above" >&2; return 2; }
  echo "$wanted" >"$stamp"
}

# The environment's interpreter, or the user's own if jaxmedgen is installed there. An environment
# whose making was cut short lacks the stamp and jaxmedgen, which pip installs last; it is made again.
use_python() {
  if compgen -G "$root/.venv/.jaxmedgen-*" >/dev/null || (cd / &&
    "$root/.venv/bin/python" -c 'from importlib.metadata import version; version("jaxmedgen")') \
    2>/dev/null; then
    python="$root/.venv/bin/python"
  elif (cd / && python3 -c 'import jaxmedgen.configuration') 2>/dev/null; then # not the clone itself
    python=python3
  else
    make_environment dev
    python="$root/.venv/bin/python"
  fi
}
