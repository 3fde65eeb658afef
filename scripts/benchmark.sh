#!/usr/bin/env bash
# Compare this guider with other methods of sampling. Takes the arguments of benchmark.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
setup_env bench cache-dit k-diffusion  # of both a few modules; what else they ask for contradicts the pinned numpy
cd "$root"
exec "$python" scripts/benchmark.py "$@"
