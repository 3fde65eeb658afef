#!/usr/bin/env bash
# Enlarge a photograph with the embedded model, with and without forecasts. Takes the arguments of scripts/sample.py; without
# any, forecasts with the shipped calibration.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
setup_env demo
[ $# -gt 0 ] || set -- --config "$root/configs/tiny_calibrated.yaml"
exec "$python" "$root/scripts/sample.py" "$@"
