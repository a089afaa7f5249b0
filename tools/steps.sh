# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Steps that a person waits for: each tells what it does and how long it took.
# Sourced by the other scripts of this directory.
#
# die      says what is wrong and what to do, and ends the script
# run_step runs a command, keeps its output in a file and shows it on failure

function die {
    printf '\n%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# run_step TITLE COMMAND [ARGUMENT...]
#
# On a terminal, the last line of the command's output is shown while it runs.
# Ctrl-C ends the command too: it runs as a process group of its own, since a
# script's background commands are deaf to it otherwise.
function run_step {
    local title=$1 began=$SECONDS log pid signal line code=0
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/hybrid-messaging-step.XXXXXX")
    if [[ ! -t 1 ]]; then
        printf '  %s ... ' "$title"
    fi
    set -o monitor
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    set +o monitor
    for signal in INT TERM HUP; do
        # shellcheck disable=SC2064  # this pid, this log
        trap "kill -$signal -- -$pid; wait $pid; rm -f '$log'; exit 1" $signal
    done
    if [[ -t 1 ]]; then
        while kill -0 $pid 2>/dev/null; do
            line="  $title, $((SECONDS - began)) s: $(tail -n 1 "$log")"
            line=${line//[^[:print:]]/ }
            printf '\r\033[K%s' "${line:0:$(($(tput cols) - 1))}"
            sleep 0.5
        done
        printf '\r\033[K  %s ... ' "$title"
    fi
    wait $pid || code=$?
    trap - INT TERM HUP
    if [[ $code == 0 ]]; then
        printf 'done in %s s\n' $((SECONDS - began))
        rm -f "$log"
        return
    fi
    printf 'failed after %s s. It said last:\n\n' $((SECONDS - began))
    tail -n 12 "$log" | cut -c -300 | sed 's/^/    /'
    printf '\nAll of it is in %s\n' "$log"
    return $code
}
