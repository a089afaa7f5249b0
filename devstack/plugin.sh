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
        install_hybrid
        ;;
    "stack install")
        # services start from here on
        require_hybrid
        ;;
    "stack post-config" | "stack extra")
        correct_hybrid_handwritten
        ;;
    "stack test-config")
        correct_hybrid_handwritten
        if [[ $HYBRID_VERIFY == True ]]; then
            verify_hybrid
        fi
        ;;
    unstack*)
        stop_hybrid
        ;;
    clean*)
        cleanup_hybrid
        ;;
esac
