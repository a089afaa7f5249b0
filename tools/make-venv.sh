#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Make the virtual environment .venv and install this checkout into it.
#
# make-venv.sh [EXTRA...]
#
# EXTRA is one of setup.cfg's extras. The checkout is installed in editable mode.
# What was done is remembered in the environment, so that a second run costs
# nothing until setup.cfg, pyproject.toml or the Python changes.
#
# PYTHON  the interpreter to use, by default the first of python3, python3.14 …
#         python3.10 that is new enough

set -o errexit -o nounset -o pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
venv=$root/.venv
# shellcheck source=tools/steps.sh
source "$here/steps.sh"

# python-qpid-proton is compiled at install time; where headers are missing it
# is built without TLS or SASL, and says nothing about it.
readonly COMPLETE='
import sys
from proton import SASL, SSL
sys.exit(not (SSL.present() and SASL.extended()))
'

readonly BASE='
import os, sys
if sys.version_info < (3, 10):
    sys.exit(1)
print(os.path.realpath(sys._base_executable))
'

# base_python COMMAND: the interpreter itself, behind any shim or environment
function base_python {
    "$1" -c "$BASE" 2>/dev/null
}

function find_python {
    local candidate
    if [[ -n ${PYTHON:-} ]]; then
        base_python "$PYTHON" \
            || die "PYTHON=$PYTHON is no Python 3.10 or newer"
        return
    fi
    for candidate in python3 python3.{14,13,12,11,10}; do
        if base_python "$candidate"; then
            return
        fi
    done
    die "there is no Python 3.10 or newer ($(python3 --version 2>&1))." \
        "Install one, and name it: PYTHON=/path/to/python3.12 $0"
}

function create {
    local python=$1
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        die "$python cannot make virtual environments: install its package" \
            "(on Debian and Ubuntu it is called like python3.12-venv)"
    fi
    run_step "creating .venv with $("$python" --version)" \
        "$python" -m venv --clear "$venv" \
        || die "$venv could not be created"
}

function install_checkout {
    run_step "installing hybrid-messaging${1:+[$1]}" \
        "$venv/bin/python" -m pip install --disable-pip-version-check \
        --progress-bar off --editable "$root${1:+[$1]}" \
        || die "pip failed. If the network is down, try again when it is up;" \
            "if the compiler failed, run tools/install-packages.sh compile"
}

function complete_proton {
    local requirement
    if "$venv/bin/python" -c "$COMPLETE"; then
        return
    fi
    requirement=$("$venv/bin/python" -m pip freeze | grep '^python-qpid-proton')
    # pip keeps what it has built, and would take it from there the next time
    "$venv/bin/python" -m pip --quiet cache remove python_qpid_proton || true
    run_step "building python-qpid-proton again, with TLS and SASL" \
        "$venv/bin/python" -m pip install --disable-pip-version-check \
        --progress-bar off --no-cache-dir --no-deps --force-reinstall \
        --no-binary python-qpid-proton "$requirement" \
        || die "python-qpid-proton could not be built"
    "$venv/bin/python" -c "$COMPLETE" \
        || die "python-qpid-proton is built without TLS or SASL:" \
            "run tools/install-packages.sh compile, and this again"
}

# two at once wait for each other
exec {checkout}<"$root"
flock "$checkout"

python=$(find_python)
# an environment survives neither that it is moved nor a change of its Python
made_for="$root $python $("$python" --version)"
if [[ $(cat "$venv/made-for" 2>/dev/null) != "$made_for" ]]; then
    if [[ -e $venv && ! -e $venv/made-for ]]; then
        die "$venv is there and was not made by this script:" \
            "remove it or move it away"
    fi
    create "$python"
    echo "$made_for" >"$venv/made-for"
fi

# Extras that were asked for once are asked for again when setup.cfg changes.
extras=$( (sed 1d "$venv/installed" 2>/dev/null || true; printf '%s\n' "$@") \
    | sed '/^$/d' | sort -u)
installed="$(cat "$root/setup.cfg" "$root/pyproject.toml" | sha256sum)
$extras"
if [[ $(cat "$venv/installed" 2>/dev/null) != "${installed%$'\n'}" ]]; then
    install_checkout "${extras//$'\n'/,}"
    complete_proton
    echo "$installed" >"$venv/installed"
fi
