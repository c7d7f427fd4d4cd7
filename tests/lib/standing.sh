# Sourced behind tap.sh by tests that stop processes (SIGSTOP) and look whether commands that need them still end when told to.
# shellcheck shell=sh disable=SC2034,SC2154 # names shared between the test files

# Input that never ends, for those commands.
mkfifo "$tmp/endless"
exec 8<>"$tmp/endless"
stopped=
stop() {
    # 0 would be the group of this test itself.
    if ! [ "$1" -gt 1 ] 2>/dev/null; then
        fail "there is a process to stop ($1)"
        return
    fi
    stopped="$stopped $1"
    kill -STOP "$1"
}
go_on() {
    # shellcheck disable=SC2086 # a list of process numbers
    [ -z "$stopped" ] || kill -CONT $stopped 2>/dev/null
    stopped=
}
milliseconds() { date +%s%3N; }
# ends NAME SIGNALS STATUS ARGUMENT...: mvmctl, sent the signals, ends within 3 s (2 s promised, the rest for a loaded host) with that
# status.
ends() {
    what=$1 signals=$2 wanted=$3
    shift 3
    "$MVMCTL" "$@" <&8 >"$tmp/run.out" 2>"$tmp/run.err" &
    pid=$!
    sleep 0.7
    for signal in $signals; do
        kill "-$signal" "$pid" 2>/dev/null
        sleep 0.1
    done
    since=$(milliseconds)
    (sleep 12 && kill -9 "$pid") >/dev/null 2>&1 &
    watch=$!
    status=0
    wait "$pid" 2>/dev/null || status=$?
    took=$(($(milliseconds) - since))
    kill "$watch" 2>/dev/null
    is "R6: $what ends by $signals with status $wanted" "$status" "$wanted"
    check "R6: $what ends within 3 s of $signals (took $took ms)" test "$took" -lt 3000
}
