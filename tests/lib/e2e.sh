# Sourced by end-to-end tests behind tap.sh: one MVM_HOME for all of them, so that the builder is assembled once.
# shellcheck shell=sh disable=SC2034,SC2154 # names shared between the test files
MVM_HOME=$MVM_TEST_TMP/e2e/home
MVM_CACHE_DIR=$MVM_TEST_TMP/e2e/cache
export MVM_HOME MVM_CACHE_DIR
mkdir -p "$MVM_HOME" "$MVM_CACHE_DIR"

mvm() { "$MVMCTL" "$@"; }
cleanup() { mvm down --all >/dev/null 2>&1 || :; }
# A copy of an example, outside of this repository's work tree.
example() {
    mkdir -p "$2"
    cp "$MVM_SOURCE/examples/$1/flake.nix" "$2/"
}
json() { printf '%s\n' "$out" | jq -r "$1"; }
# Waits until a command succeeds, within SECONDS.
eventually() {
    left=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.1
    done
}
# Processes of VMs below this MVM_HOME: QEMU has the VM's folder nowhere in its arguments, but its image or store is below the cache.
vm_processes() { pgrep -f "qemu-system.*$MVM_CACHE_DIR|qemu-system.*$MVM_HOME" || :; }
# Supervisors of VMs below this MVM_HOME: nobody else's are looked at, let alone killed.
supervisors() {
    for pid in $(pgrep -x mvm-supervisor); do
        cat "/proc/$pid/environ" 2>/dev/null | tr '\0' '\n' | grep -qFx "MVM_HOME=$MVM_HOME" && echo "$pid"
    done
    :
}
