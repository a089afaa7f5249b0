# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The machine that DevStack would change, played small: what is called in its
# place goes to ``$DEST/calls``; systemd starts and ends real processes, except
# that something else listens in the place of RabbitMQ.
#
# Dependencies:
#
# - ``functions.sh``, or DevStack's own functions
# - ``DEST``, ``PYTHON``

# shellcheck disable=SC2034  # DevStack's variables, which the plugin reads
STACK_USER=$(id -un) DATA_DIR=$DEST/data HOST_IP=127.0.0.1 SYSTEMD_DIR=$DEST/units \
    SERVICE_LISTEN_ADDRESS=0.0.0.0 SYSTEMCTL="sudo systemctl"
mkdir -p "$SYSTEMD_DIR" "$DEST/pids"

function called {
    echo "$*" >>"$DEST/calls"
}

# stack.sh itself defines it
function echo_summary {
    echo "$@"
}

# sudo COMMAND: the stack user owns everything here
function sudo {
    "$@"
}

function rabbitmqctl {
    called rabbitmqctl "$@"
    if [[ " $* " == *" list_vhosts "* ]]; then
        printf '%s\n' / left-over
    fi
}

function systemctl {
    local action=$1 unit=${2:-} pid=$DEST/pids/${2:-none} command
    called systemctl "$@"
    case $action in
        restart)
            systemctl stop "$unit"
            read -ra command <<<"$(iniget "$SYSTEMD_DIR/$unit" Service ExecStart)"
            if [[ $unit == *rabbitmq* ]]; then
                # a node is slow to start, and only systemd ends its epmd with it
                command=(
                    "$PYTHON" -m http.server --bind 127.0.0.1
                    "$HYBRID_RABBITMQ_NOTIFY_PORT"
                )
            fi
            (
                cd "$(iniget "$SYSTEMD_DIR/$unit" Service WorkingDirectory)" || exit
                set -o allexport
                # shellcheck disable=SC1091
                source ./environment
                exec "${command[@]}" >"$DEST/$unit.log" 2>&1 </dev/null
            ) &
            echo $! >"$pid"
            ;;
        stop)
            if [[ -e $pid ]]; then
                kill "$(<"$pid")"
                # it is no child of unstack.sh
                while kill -0 "$(<"$pid")" 2>/dev/null; do
                    wait "$(<"$pid")" 2>/dev/null || sleep 0.1
                done
                rm "$pid"
            fi
            ;;
    esac
}

function journalctl {
    cat "$DEST"/*.log
}

function install_package {
    called install_package "$@"
}

function start_service {
    called start_service "$@"
}

function is_package_installed {
    [[ ",${INSTALLED:-}," == *",$1,"* ]]
}

function pip_install {
    called pip_install "$@"
}

function get_python_exec_prefix {
    dirname "$PYTHON"
}
