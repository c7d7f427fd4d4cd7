#!/bin/sh
# How a Linux guest ends by itself, and how that is told; the rest is tests/cli/endings.t.
. "$(dirname "$0")/../lib/tap.sh"
wants_image=1
. "$(dirname "$0")/../lib/e2e.sh"
check 'an image is there' test -s "$image/vmlinux"

# shellcheck source=tests/lib/endings.sh
. "$(dirname "$0")/../lib/endings.sh"

# In an orderly way: the agent announces it.
up off
run mvm exec off -- poweroff
is 'R6: poweroff in a guest exits with 0' "$status" 0
ends off 'poweroff in a guest' stopped 'the guest powered off$'
up halts
run mvm exec halts -- sh -c 'halt; exit 3'
is 'R6: what asked for the end is heard to its end' "$status" 3
ends halts 'halt in a guest' stopped 'the guest powered off$'
up again
mvm exec again -- sh -c 'touch /tmp/runs; sleep 1000' 2>"$tmp/sleep.err" &
sleeper=$!
check 'a program runs' eventually 10 mvm exec again -- test -e /tmp/runs
run mvm exec again -- reboot
is 'R6: reboot in a guest exits with 0' "$status" 0
wait $sleeper
is 'R6: a program that ran then has failed' $? 125
has 'R6: because the guest restarted' "$(cat "$tmp/sleep.err")" 'the guest restarted'
ends again 'reboot in a guest' stopped 'the guest restarted$'

# Without a word.
up forced
run mvm exec forced -- reboot -f
ends forced 'reboot -f in a guest' failed 'failed: the guest panicked or was reset: .*[Rr]estart'
up panics
run mvm exec panics -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger'
ends panics 'a panic' failed 'failed: the guest panicked or was reset: Kernel panic - not syncing'

# What serves a request in the guest, and what it runs.
up worker
run mvm exec worker -- sh -c 'kill -9 $PPID; sleep 1'
is 'R15: a request whose worker was killed has failed' "$status" 125
has 'R15: with the signal' "$err" 'the worker in the guest was killed by signal 9 .Killed.'
run mvm exec worker -- tail /dev/zero
is 'R15: a program that took all memory ends as a killed one' "$status" 137
has 'R15: and it is said that memory ran out' "$err" 'tail was killed by signal 9 .*: the guest ran out of memory'
mvm down worker
finish
