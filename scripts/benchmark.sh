#!/usr/bin/env bash
# Compare this guider with other methods of sampling. Takes the arguments of benchmark.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
# Of these a few modules or weights are used, not what they depend on, which is much or contradicts the pinned numpy
setup_env bench cache-dit k-diffusion galaxygrad imaginairy psutil SwissArmyTransformer
cd "$root"
exec "$python" scripts/benchmark.py "$@"
