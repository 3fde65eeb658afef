# Sourced by demo.sh and test.sh: `setup_env EXTRA [PACKAGE ...]` makes .venv with this project and its extra, once, and the
# packages without what they depend on; it leaves $python.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

find_python() {
    local candidate
    for candidate in python3.11 python3 python; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python 3.10 or newer found on PATH: install Python 3.11 and run this again" >&2
    return 1
}

setup_env() {
    local extra="$1" stamp wanted base pip
    shift
    python="$root/.venv/bin/python"
    stamp="$root/.venv/installed-$extra"
    wanted="$(cat "$root/setup.py" "$root/scripts/constraints.txt" | cksum) $*"
    if [ -x "$python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    base="$(find_python)" || return 1
    [ -x "$python" ] || "$base" -m venv "$root/.venv" || return 1
    echo "installing taylorseer_guider[$extra] into .venv (once) ..."
    pip=("$python" -m pip install --quiet --disable-pip-version-check -c "$root/scripts/constraints.txt")
    "${pip[@]}" -e "$root[$extra]" || return 1
    [ $# -eq 0 ] || "${pip[@]}" --no-deps "$@" || return 1
    echo "$wanted" >"$stamp"
}
