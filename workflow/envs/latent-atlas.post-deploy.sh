#!/usr/bin/env bash
# Run by Snakemake in the project's folder, inside the environment that it has just made.
set -euo pipefail
python -m pip install --quiet --requirement requirements.lock
python -m pip install --quiet --no-deps --editable .
