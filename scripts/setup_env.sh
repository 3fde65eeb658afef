# Sourced by demo.sh, test.sh and benchmark.sh: `setup_env EXTRA [PACKAGE ...]` makes .venv with this project and its extra, once,
# and the packages without what they depend on; it leaves $python.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3 python; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python 3.11 or newer found on PATH (the pinned packages need it): install Python 3.11 and run this again" >&2
    return 1
}

setup_env() {
    local extra="$1" stamp wanted base pip
    shift
    python="$root/.venv/bin/python"
    stamp="$root/.venv/installed-$extra"
    wanted="$root $(cat "$root/setup.py" "$root/scripts/constraints.txt" | cksum) $*"
    if [ -x "$python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    base="$(find_python)" || return 1
    if ! "$python" -m pip --version >/dev/null 2>&1 && ! "$base" -m venv "$root/.venv"; then
        echo "$base cannot make $root/.venv: install its venv module (python3-venv on Debian), or remove that folder" >&2
        return 1
    fi
    echo "installing taylorseer_guider[$extra] into .venv (once) ..."
    pip=("$python" -m pip install --quiet --disable-pip-version-check -c "$root/scripts/constraints.txt")
    "${pip[@]}" -e "$root[$extra]" || return 1
    [ $# -eq 0 ] || "${pip[@]}" --no-deps "$@" || return 1
    echo "$wanted" >"$stamp"
}
