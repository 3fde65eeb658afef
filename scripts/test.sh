#!/usr/bin/env bash
# Run the tests. Takes the arguments of pytest; --quick leaves out those marked as slow.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
# A host, samplers and networks written by others; their own dependencies are many and not needed here
setup_env test imaginairy k-diffusion torchdiffeq torchsde trampoline galaxygrad psutil transformers tokenizers
arguments=(-q)
for argument in "$@"; do
    case "$argument" in
        --quick) arguments+=(-m "not slow") ;;
        *) arguments+=("$argument") ;;
    esac
done
cd "$root"
exec "$python" -m pytest "${arguments[@]}"
