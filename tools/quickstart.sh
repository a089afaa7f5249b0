#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# From a fresh Debian or Ubuntu machine to a hybrid message bus that works.
#
# quickstart.sh
#
# Installs what is missing, brings up the mode qpid-hybrid, rewrites a sample
# service configuration, proves that messages go where they should, and says
# what to do next. It can be run again at any time. Environment:
#
# PYTHON  the interpreter to use (see make-venv.sh)

set -o errexit -o nounset -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
sample=$root/build/quickstart/cinder.conf
# shellcheck source=tools/steps.sh
source "$root/tools/steps.sh"

if [[ $# != 0 ]]; then
    sed -n '4,/^$/ s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]]
    exit
fi

function title {
    printf '\n%s\n' "$*"
}

function hybrid_messaging {
    "$root/.venv/bin/hybrid-messaging" "$@"
}

title "1. What this machine needs"
"$root/tools/install-packages.sh" compile engines
"$root/tools/make-venv.sh"
echo "  all there: $root/.venv"

title "2. The engines: an AMQP 1.0 router for RPC, RabbitMQ for notifications"
# the table comes at the end, where it is not scrolled away
hybrid_messaging up qpid-hybrid >/dev/null

title "3. A service's configuration, so far with one RabbitMQ for everything"
mkdir -p "$(dirname "$sample")"
# it gets passwords
install -m 600 "$root/files/samples/cinder.conf" "$sample"
hybrid_messaging --quiet configure --dry-run "$sample"
hybrid_messaging --quiet configure "$sample" >/dev/null
hybrid_messaging check "$sample"

title "4. The proof"
# its lines are on standard error; scripts would get a table, too
hybrid_messaging smoke >/dev/null

title "5. It works. This is where, and what you can do with it"
hybrid_messaging up
cat <<END

These commands are in the virtual environment of this checkout:
  source $root/.venv/bin/activate
The rewritten sample is $sample
All tests: $root/tools/test.sh
END
