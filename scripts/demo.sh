#!/usr/bin/env bash
# Enlarge a photograph with the embedded model, with and without forecasts. Takes the arguments of scripts/sample.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
setup_env demo
exec "$python" "$root/scripts/sample.py" "$@"
