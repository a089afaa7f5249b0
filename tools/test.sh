#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Run the test suite: install what it needs, then run its stages.
#
# test.sh [-x] [STAGE...] [-- ARGUMENT...]
#
# Stages: lint docs unit devstack functional fuzz interop real coverage; by default all
# but coverage, which runs unit and functional again and records what they reach.
# -x stops after a stage that fails. What follows -- goes to pytest:
# test.sh unit -- -k urls
#
# Tests start the servers that they need, on private ports, and end them.

set -o errexit -o nounset -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '4,/^$/ s/^# \{0,1\}//p' "$0"
    exit
fi

"$root/tools/install-packages.sh" compile engines java test
"$root/tools/make-venv.sh" docs lint test
exec "$root/.venv/bin/python" "$root/tools/run_tests.py" "$@"
