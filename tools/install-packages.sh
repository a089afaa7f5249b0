#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Install the Debian or Ubuntu packages that bindep.txt names for some profiles.
#
# install-packages.sh [--list] PROFILE...
#
# --list only prints the packages that are missing.
#
# A package counts as present, too, if there is a command of its name: whoever
# has their own rabbitmq-server or npm keeps it. Nothing is asked of the network
# when nothing is missing. Services that come with the packages are neither
# started nor enabled, and those that are there already are left alone.

set -o errexit -o nounset -o pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bindep=$here/../bindep.txt
# shellcheck source=tools/steps.sh
source "$here/steps.sh"

# Packages whose services must not start.
readonly SERVERS=(rabbitmq-server erlang-base redis-server redis-sentinel)
readonly POLICY=/usr/sbin/policy-rc.d
readonly POLICY_BEFORE=$POLICY.before-hybrid-messaging

# named_packages PLATFORM PROFILE...
#
# Names, profiles and one platform are all that we use of bindep's language.
function named_packages {
    local platform=$1 package rest selector wanted line
    shift
    while IFS= read -r line; do
        read -r package rest <<<"${line%%#*}"
        if [[ -z $package ]]; then
            continue
        fi
        wanted=unless-there-are-profiles
        for selector in ${rest//[\[\]]/ }; do
            case " platform:$platform $* " in
                *" $selector "*)
                    if [[ $selector != platform:* ]]; then
                        wanted=yes
                    fi
                    ;;
                *)
                    if [[ $selector == platform:* ]]; then
                        continue 2
                    elif [[ $wanted != yes ]]; then
                        wanted=no
                    fi
                    ;;
            esac
        done
        if [[ $wanted != no ]]; then
            echo "$package"
        fi
    done <"$bindep"
}

function is_installed {
    local status
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>&1) \
        && [[ $status == installed ]]
}

function missing_packages {
    local package
    for package in $(named_packages dpkg "$@"); do
        if ! is_installed "$package" && ! type -P "$package" >/dev/null; then
            echo "$package"
        fi
    done
}

# Debian starts a package's service as soon as it is installed, and again at
# every boot. policy-rc.d is its way to say no, with systemd and without.
function deny_new_services {
    if [[ -e $POLICY ]] && ! grep -q hybrid-messaging $POLICY; then
        mv $POLICY $POLICY_BEFORE
    fi
    cat >$POLICY <<END
#!/bin/sh
# Put here by hybrid-messaging while it installs packages.
case \$1 in
    rabbitmq-server* | epmd* | redis-s*) exit 101 ;;
esac
if [ -x $POLICY_BEFORE ]; then
    exec $POLICY_BEFORE "\$@"
fi
END
    chmod 755 $POLICY
}

function allow_services_again {
    rm -f $POLICY
    if [[ -e $POLICY_BEFORE ]]; then
        mv $POLICY_BEFORE $POLICY
    fi
}

# disable_units PACKAGE: releases differ in which units a package has, and systemctl
# fails for one that is not there
function disable_units {
    local -a units
    mapfile -t units < <(dpkg-query --listfiles "$1" \
        | sed -nE 's:.*/systemd/system/([^/@]+\.(service|socket))$:\1:p')
    if [[ ${#units[@]} != 0 ]]; then
        systemctl disable "${units[@]}"
    fi
}

function install {
    local -a new=()
    local package
    for package in "${SERVERS[@]}"; do
        if ! is_installed "$package"; then
            new+=("$package")
        fi
    done
    export DEBIAN_FRONTEND=noninteractive
    apt-get --quiet update \
        || echo "apt-get update failed; trying with what is known"
    deny_new_services
    trap allow_services_again EXIT
    # a fresh machine may be busy with its unattended upgrades
    apt-get --quiet --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=300 install "$@" || return
    for package in "${new[@]}"; do
        # what was missing need not be what was asked for
        if ! is_installed "$package"; then
            continue
        fi
        if type -P systemctl >/dev/null; then
            disable_units "$package" || return
        fi
        if [[ -e /etc/init.d/$package ]]; then
            update-rc.d "$package" disable || return
        fi
    done
}

if [[ ${1:-} == --list ]]; then
    shift
    missing_packages "$@"
    exit
fi

if ! type -P apt-get dpkg-query >/dev/null; then
    echo "This is no Debian or Ubuntu machine. Unless you have them already," \
        "install these packages yourself:"
    named_packages rpm "$@"
    exit
fi

mapfile -t missing < <(missing_packages "$@")
if [[ ${#missing[@]} == 0 ]]; then
    exit
fi
by_hand="apt-get install --no-install-recommends ${missing[*]}"

if [[ $(id -u) != 0 ]]; then
    if ! type -P sudo >/dev/null; then
        die "packages are missing, and there is no sudo to install them" \
            "with. As root, run: $by_hand"
    fi
    echo "  packages are missing, sudo will install them: ${missing[*]}"
    if ! sudo ${CI:+--non-interactive} --validate; then
        die "sudo does not let you install packages." \
            "Have somebody run as root: $by_hand"
    fi
    exec sudo "${BASH_SOURCE[0]}" "$@"
fi

if ! run_step "installing ${#missing[@]} packages and what they need" \
    install "${missing[@]}"; then
    die "the packages could not be installed. If the network is down," \
        "try again when it is up; if not, run by hand: $by_hand"
fi
