#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Plays stack.sh, unstack.sh or clean.sh, after the name that it is called by,
# as far as they have to do with plugins and messaging.
#
# SCRIPT.sh LOCAL_CONF PLUGIN [COMMAND]
#
# LOCAL_CONF  a file of assignments, the localrc section of local.conf
# PLUGIN      the root of the plugin's checkout
# COMMAND     is evaluated where stack.sh has configured the services
#
# DEVSTACK_DIR  a checkout of DevStack, to take its functions instead of ours

set -o errexit -o nounset -o pipefail

local_conf=$1 plugin=$2 command=${3:-:}
script=${0##*/}
here=$plugin/tests/devstack
ENABLED_SERVICES=key,n-api,rabbit DISABLED_SERVICES=""
# shellcheck disable=SC2034  # lib/verify reads it
TOP_DIR=${DEVSTACK_DIR:-$here}

if [[ -n ${DEVSTACK_DIR:-} ]]; then
    set +o nounset
    # shellcheck disable=SC1090,SC1091
    for file in functions-common inc/ini-config inc/python lib/rpc_backend; do
        source "$DEVSTACK_DIR/$file"
    done
else
    # shellcheck source=tests/devstack/functions.sh
    source "$here/functions.sh"
fi
# shellcheck source=tests/devstack/surroundings.sh
source "$here/surroundings.sh"
# shellcheck disable=SC1090
source "$local_conf"
SERVICE_HOST=${SERVICE_HOST:-$HOST_IP}
if [[ $script != stack.sh && -e $DEST/stackenv ]]; then
    # shellcheck disable=SC1091
    source "$DEST/stackenv"
fi

# DevStack sources these in functions, whose variables would be local
function load_plugin_settings {
    source "$plugin/devstack/settings"
}

function run_phase {
    # shellcheck disable=SC2086  # nothing stands for no phase, as in DevStack
    source "$plugin/devstack/plugin.sh" $1 ${2:-}
}

case $script in
    stack.sh)
        # lib/rpc_backend, which unstack.sh does not have
        if is_service_enabled rabbit; then
            RABBIT_HOST=${RABBIT_HOST:-$SERVICE_HOST}
        fi
        RABBIT_USERID=${RABBIT_USERID:-stackrabbit}
        load_plugin_settings
        # as the settings of a plugin that comes later
        for service in ${LATER_SERVICES:-}; do
            enable_service "$service"
        done
        echo "ENABLED_SERVICES=$ENABLED_SERVICES" >"$DEST/stackenv"
        run_phase stack pre-install
        called "DevStack installs RabbitMQ"
        # shellcheck disable=SC2128  # no array of DevStack's
        eval "$command"
        for phase in install post-config extra test-config; do
            run_phase stack $phase
        done
        echo -e "at the end: $DEPRECATED_TEXT"
        ;;
    unstack.sh)
        load_plugin_settings
        run_phase unstack
        ;;
    clean.sh)
        load_plugin_settings
        run_phase clean
        ;;
esac
