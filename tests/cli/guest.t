#!/bin/sh
# The test guest (tests/guest) under QEMU: all that a supervisor does with a VM, in one that is ready in milliseconds. No
# Linux, no builder.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
step() { json ".timings.steps[] | select(.name == \"$1\") | .ms"; }
image=$tmp/image
test_image "$image"

# ---- What its kernel offers ----

test_image "$tmp/vsock"
sed -i 's/"kernel_offers":[^]]*]/"kernel_offers":["mmio-cmdline","vsock"]/' "$tmp/vsock/image.json"
run mvm up "$tmp/vsock" --name refused
is 'an image whose kernel offers no device for the agent is refused in one line, with the way out in another' "$status $(printf '%s' "$err" | grep -v booting)" \
    "14 mvmctl: [runtime-backend] the image's kernel offers mmio-cmdline, vsock: qemu wants console and one of mmio-cmdline, mmio-acpi, pci
mvmctl: hint: use a kernel that has them; kernel_offers in image.json says what it has (docs/architecture.md)"

# ---- Ready, programs ----

run mvm up "$image" --name a --cold --json
is 'the test guest boots' "$status/$(json .mode)" 0/cold
echo "# hello $(step boot) ms after the VMM was there, which took $(step vmm-load) ms; ready after $(json .ready_ms) ms in all"
check "its own account: hello after $(json .timings.guest_ready_ms) ms of at most 2,000" test "$(json .timings.guest_ready_ms)" -lt 2000
has 'its console is a log' "$(mvm logs a)" '^test guest: hello after [0-9]+ ms'
is 'a program writes' "$(mvm exec a -- echo hello there)" 'hello there'
run mvm exec a -- exit 7
is 'its exit status is passed on' "$status" 7
run mvm exec a -- sh -c 'echo out; echo err >&2; false || exit 3'
is 'output, errors and status are told apart' "$status $out $err" '3 out err'
run mvm exec a -- nosuch
is 'a program that is not there has status 127' "$status" 127
is 'the guest has the name of its VM' "$(mvm exec a -- hostname)" a
head -c 3000000 /dev/urandom >"$tmp/random"
mvm exec a -- cat <"$tmp/random" >"$tmp/back"
check 'what goes in comes out' cmp "$tmp/random" "$tmp/back"
is 'twenty million bytes come, in windows' "$(mvm exec a -- flood 20000000 | wc -c)" 20000000
# Nobody reads: the guest waits with a full window, and others are served.
mkfifo "$tmp/unread"
"$MVMCTL" exec a -- flood >"$tmp/unread" &
flood=$!
exec 4<"$tmp/unread"
sleep 0.5
is 'a flood that nobody reads stops nobody else' "$(mvm exec a -- echo served)" served
kill "$flood"
status=0
wait "$flood" || status=$?
exec 4<&-
is 'and ends by a signal' "$status" 143
mvm cp "$tmp/random" a:/tmp/random
run mvm cp a:/tmp/random "$tmp/again"
is 'a file is copied in and out' "$status" 0
check 'whole' cmp "$tmp/random" "$tmp/again"

# ---- Standing still, copies ----

mvm exec a -- sh -c 'echo kept >/tmp/kept'
mvm pause a
is 'it is paused' "$(field a state)" paused
mvm resume a
is 'and goes on' "$(mvm exec a -- cat /tmp/kept)" kept
run mvm snapshot create a clean
is 'it is saved' "$status" 0
mvm exec a -- sh -c 'echo changed >/tmp/kept'
run mvm up --from a:clean --name b --json
is 'another continues from there' "$status/$(json .mode)/$(mvm exec b -- cat /tmp/kept)/$(mvm exec b -- hostname)" 0/warm/kept/b
run mvm fork a c
is 'it is forked' "$status/$(mvm exec c -- cat /tmp/kept)" 0/changed
is 'no two have the same seed' "$(for vm in a b c; do mvm exec "$vm" -- seed; done | sort -u | wc -l)" 3
run mvm down a b c
is 'they are stopped' "$status/$(mvm ls --names)" 0/
run mvm up "$image" --name w --json
is 'the next boot makes a snapshot' "$status/$(json .mode)" 0/cold
check 'the snapshot of its boot is kept' eventually 20 snapshot_kept
run mvm up "$image" --name x --json
is 'from which the one after it starts warm' "$status/$(json .mode)/$(mvm exec x -- echo warm)" 0/warm/warm
echo "# warm after $(json .ready_ms) ms, $(step restore) of them to restore"

# ---- Ends ----

has_ended() { [ "$(field "$1" supervisor_pid)" = 0 ]; }
run mvm exec w -- poweroff
check 'one that powers off is gone' eventually 10 has_ended w
has 'which is told' "$status $(field w ended)" '^0 the guest powered off$'
run mvm exec x -- crash
is 'a program in a guest that crashes fails' "$status" 125
check 'the VM is gone' eventually 10 has_ended x
has 'what it said last is told' "$(field x ended)" 'the guest panicked or was reset: Kernel panic - not syncing: a program asked for it'
mvm up "$image" --name y >/dev/null 2>&1
run mvm exec y -- halt
is 'a program in a guest that halts fails' "$status" 125
has 'with the reason' "$err" 'the guest has halted'
is 'the state of its VM is halted' "$(field y state)" halted
mvm down y >/dev/null
is 'nothing is left' "$(pgrep -f "qemu-system.*$image" | wc -l)$(mvm ls --json | jq -r '[.vms[] | select(.supervisor_pid != 0)] | length')" 00
finish
