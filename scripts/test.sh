#!/usr/bin/env bash
# Run the tests. Takes the arguments of pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
setup_env test imaginairy torchdiffeq  # a host written by others; its own dependencies are many and not needed here
cd "$root"
exec "$python" -m pytest -q "$@"
