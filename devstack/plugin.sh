# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# DevStack's phases, and what this plugin does in them.
#
# plugin.sh MODE [PHASE], sourced by DevStack's run_plugins.

# shellcheck source=lib/hybrid
source "$HYBRID_DIR/lib/hybrid"

if [[ $1 == stack ]]; then
    # in every phase, for another plugin may have redefined them since
    warn_of_other_rpc_backends
    # shellcheck source=lib/rpc_backend
    source "$HYBRID_DIR/lib/rpc_backend"
fi

case "$1 ${2:-}" in
    "stack pre-install")
        # The services that DevStack configures and starts from here on load the
        # drivers and need the engines
        echo_summary "Installing hybrid-messaging for $HYBRID"
        install_hybrid
        start_hybrid_engines
        ;;
    "stack test-config")
        if [[ $HYBRID_VERIFY == True ]]; then
            echo_summary "Checking RPC and notifications"
            verify_hybrid
        fi
        ;;
    unstack*)
        stop_hybrid_engines
        ;;
    clean*)
        cleanup_hybrid
        ;;
esac
