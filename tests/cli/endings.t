#!/bin/sh
# How a VM ends, by itself or by others, and how that is told; how Linux ends is in tests/e2e/36-endings.t.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
image=$tmp/image
test_image "$image"

# shellcheck source=tests/lib/endings.sh
. "$(dirname "$0")/../lib/endings.sh"

# In an orderly way: the agent announces it.
up off
run mvm exec off -- poweroff
is 'R6: poweroff in a guest exits with 0' "$status" 0
ends off 'poweroff in a guest' stopped 'the guest powered off$'
up status
run mvm exec status -- sh -c 'poweroff; exit 3'
is 'R6: what asked for the end is heard to its end' "$status" 3
ends status 'poweroff and another command' stopped 'the guest powered off$'
up again
mvm exec again -- sh -c 'echo >/tmp/runs; sleep 1000' 2>"$tmp/sleep.err" &
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
mvm exec forced -- say the last line
run mvm exec forced -- reset
is 'R6: a program in a guest that is reset has failed' "$status" 125
has 'R6: how such a VM ended is told' "$err" 'forced: failed: the guest panicked or was reset'
has 'R6: and what it wrote last' "$err" ' the last line'
ends forced 'a reset' failed 'failed: the guest panicked or was reset: the last line'
up panics
run mvm exec panics -- crash
ends panics 'a panic' failed 'failed: the guest panicked or was reset: Kernel panic - not syncing'
up killed
kill "$(field killed vmm_pid)"
ends killed 'a backend that is sent SIGTERM' stopped 'qemu was told to end by another process$'
up shot
kill -9 "$(field shot vmm_pid)"
ends shot 'a backend that is killed' stopped 'qemu was killed by signal 9$'

# An agent that breaks the protocol.
up babbles
run mvm exec babbles -- babble
is 'R6: what a cut off guest served has failed' "$status" 125
has 'R6: and why' "$err" 'the guest was cut off: '
is 'R6: its state is "cut off"' "$(field babbles state)" 'cut off'
has 'R6: with the reason, in JSON' "$(field babbles problem)" '^the guest was cut off: frame'
has 'R6: and for people' "$(mvm ls | grep '^babbles ')" 'cut off .*; the guest was cut off: frame'
run mvm exec babbles -- true
is 'R6: nothing more is served by it' "$status" 125
has 'R6: and why not' "$err" 'the guest was cut off: frame'
run mvm down babbles
is 'R6: it can be stopped' "$status" 0
finish
