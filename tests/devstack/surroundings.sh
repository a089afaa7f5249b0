# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The machine that DevStack would change, played small: what is called in its
# place goes to ``$DEST/calls``; systemd starts and ends real processes, except
# that something else listens in the place of all engines but the router.
#
# Dependencies:
#
# - ``functions.sh``, or DevStack's own functions
# - ``DEST``, ``PYTHON``

# shellcheck disable=SC2034  # DevStack's variables, which the plugin reads
STACK_USER=$(id -un) DATA_DIR=$DEST/data HOST_IP=127.0.0.1 SYSTEMD_DIR=$DEST/units \
    SERVICE_LISTEN_ADDRESS=0.0.0.0 SYSTEMCTL="sudo systemctl" \
    HYBRID_RABBITMQ_CONF_DIR=$DEST/rabbitmq HYBRID_CONFIG_DIR=$DEST/etc
mkdir -p "$SYSTEMD_DIR" "$DEST/pids" "$DEST/bin"

# a Java and a Redis that have nothing to say, and the command without what asks the
# network or a real Kafka
cat >"$DEST/bin/java" <<'EOF'
#!/bin/bash
echo 'openjdk version "17.0.1"' >&2
EOF
cat >"$DEST/bin/redis-server" <<'EOF'
#!/bin/bash
echo 'Redis server v=7.0.15'
EOF
cat >"$DEST/bin/hybrid-messaging" <<EOF
#!/bin/bash
case "\$1 \$2" in
    "fetch kafka") mkdir -p $DEST/cache/hybrid-messaging/kafka-4.1.1/libs
        touch $DEST/cache/hybrid-messaging/kafka-4.1.1/libs/kafka_2.13-4.1.1.jar ;;
    "fetch broker") mkdir -p $DEST/cache/hybrid-messaging/artemis-2.55.0 ;;
    "engine setup"|"smoke --config") ;;
    "check "*) exec $(dirname "$PYTHON")/hybrid-messaging "\$@" --no-connect ;;
    *) exec $(dirname "$PYTHON")/hybrid-messaging "\$@" ;;
esac
echo "hybrid-messaging \$*" >>$DEST/calls
EOF
chmod +x "$DEST"/bin/*
PATH=$DEST/bin:$PATH

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
        printf '%s\n' / nova_cell0 left-over
    elif [[ " $* " == *" version "* ]]; then
        echo "${RABBITMQ_VERSION:-4.2.0}"
    fi
}

# getent ahosts HOST
function getent {
    case $2 in
        controller.example) echo "127.0.0.1 STREAM $2" ;;
        other.example) echo "192.0.2.1 STREAM $2" ;;
        *.example) return 2 ;;
        *) echo "$2 STREAM" ;;
    esac
}

function systemctl {
    local action=$1 unit=${2:-} pid=$DEST/pids/${2:-none} command port
    called systemctl "$@"
    case $action in
        restart | start)
            if [[ $action == start && -e $pid ]]; then
                return
            fi
            systemctl stop "$unit"
            read -ra command <<<"$(iniget "$SYSTEMD_DIR/$unit" Service ExecStart)"
            if [[ $unit != *router* ]]; then
                # a node is slow to start, and only systemd ends its epmd with it
                port=${unit#*-}
                port=HYBRID_${port%.service}_PORT
                port=${port^^}
                command=("$PYTHON" -m http.server --bind 127.0.0.1 "${!port}")
            fi
            (
                cd "$(iniget "$SYSTEMD_DIR/$unit" Service WorkingDirectory)" || exit
                set -o allexport
                if [[ -e environment ]]; then
                    # shellcheck disable=SC1091
                    source ./environment
                fi
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

# nothing with OFFLINE=True, as DevStack's apt_get
function install_package {
    if [[ ${OFFLINE:-False} != True ]]; then
        called install_package "$@"
        [[ ",${NOT_PACKAGED:-}," != *",$1,"* ]] || return
        INSTALLED+=,$1
    fi
}

function uninstall_package {
    if [[ ${OFFLINE:-False} != True ]]; then
        called uninstall_package "$@"
    fi
}

function is_ubuntu {
    [[ ${FAMILY:-debian} == debian ]]
}

# apt-cache show PACKAGE
function apt-cache {
    [[ $2 == openjdk-21-jre-headless ]]
}

# dnf --quiet info PACKAGE, as on RHEL 10
function dnf {
    [[ $3 == java-21-openjdk-headless || $3 == valkey ]]
}

function start_service {
    called start_service "$@"
}

function restart_service {
    called restart_service "$@"
}

# install [-o USER -g GROUP] …: the user of a package is there where the package is
function install {
    if [[ $1 == -o ]]; then
        called install "$@"
        shift 4
    fi
    command install "$@"
}

function is_package_installed {
    [[ ",${INSTALLED:-}," == *",$1,"* ]]
}

function pip_install {
    called pip_install "$@"
}

function setup_develop {
    called setup_develop "$@"
}

# async_run NAME FUNCTION: here in turn
function async_run {
    called async_run "$1"
    "$2"
}

function async_wait {
    called async_wait "$1"
}

function get_python_exec_prefix {
    echo "$DEST/bin"
}
