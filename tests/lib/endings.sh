# Sourced by tests of how a VM ends: $image is what it boots.
# shellcheck shell=sh disable=SC2154 # names shared between the test files

up() {
    run mvm up "$image" --name "$1"
    is "a VM is up: $1" "$status" 0
}
has_ended() { [ "$(field "$1" supervisor_pid)" = 0 ]; }
# ends NAME WORDS STATE ENDED
ends() {
    check "R6: $2: the VM's processes end" eventually 30 has_ended "$1"
    is "R6: $2: its state" "$(field "$1" state)" "$3"
    has "R6: $2: how it ended" "$(field "$1" ended)" "^$4"
    has "R6: $2: ls says so to people" "$(mvm ls | grep "^$1 ")" "; $4"
}
