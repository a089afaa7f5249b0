# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the plugin uses of DevStack's functions, written anew in the smallest form
# that behaves alike. Unlike theirs, it bears nounset.
#
# Dependencies:
#
# - ``DEST``, an empty directory
# - ``surroundings.sh``, sourced afterwards

DEPRECATED_TEXT=""

function die {
    shift
    echo "[ERROR] $*" >&2
    exit 1
}

function warn {
    echo "[WARNING] $2"
}

function deprecated {
    DEPRECATED_TEXT+="\n$1"
    echo "WARNING: $1" >&2
}

function define_plugin {
    :
}

function trueorfalse {
    local value=${!2:-$1}
    case "${value,,}" in
        true | yes | 1) echo True ;;
        false | no | 0) echo False ;;
        *) echo "$1" ;;
    esac
}

# vercmp VERSION ">=" VERSION
function vercmp {
    printf '%s\n' "$3" "$1" | sort --check=quiet --version-sort
}

function is_service_enabled {
    local service
    for service in "$@"; do
        if [[ ,$ENABLED_SERVICES, == *",$service,"* ]]; then
            return 0
        fi
    done
    return 1
}

function enable_service {
    if [[ ,$DISABLED_SERVICES, == *",$1,"* ]]; then
        warn "" "Attempt to enable_service $1 when it has been disabled"
    elif ! is_service_enabled "$1"; then
        ENABLED_SERVICES+=",$1"
    fi
}

function disable_service {
    DISABLED_SERVICES+=",$1"
    ENABLED_SERVICES=,$ENABLED_SERVICES,
    ENABLED_SERVICES=${ENABLED_SERVICES//,$1,/,}
}

function iniget {
    sed -n "/^\\[$2\\]/,/^\\[/ s/^$3 *= *//p" "$1"
}

function iniset {
    if [[ $1 == -sudo ]]; then
        shift
    fi
    local file=$1 section=$2 option=$3 value=${4:-}
    touch "$file"
    if ! grep -q "^\[$section\]" "$file"; then
        printf '\n[%s]\n' "$section" >>"$file"
    fi
    sed -i -e "/^\\[$section\\]/,/^\\[/ {/^$option *=/d}" \
        -e "/^\\[$section\\]/a $option = $value" "$file"
}

function write_user_unit_file {
    local file=$SYSTEMD_DIR/$1
    iniset -sudo "$file" Service User "$4"
    iniset -sudo "$file" Service ExecStart "$2"
}
