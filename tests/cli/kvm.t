#!/bin/sh
# The test guest under KVM, even where mvmctl would not choose it: a KVM that emulates each instruction runs this guest, which
# has nothing but general registers and no user space. The verdict on KVM is overridden in this test's own folder alone.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
    skip 'the test guest boots with KVM' 'there is no /dev/kvm here'
    finish
fi
image=$tmp/image
test_image "$image"

# Where KVM is itself emulated, QEMU gives up on a register of `-cpu host` that it may not set (IA32_ARCH_CAPABILITIES).
qemu=qemu-system-$(uname -m)
mkdir "$tmp/path"
cat >"$tmp/path/$qemu" <<N
#!/bin/sh
for arg in "\$@"; do
    shift
    [ "\$arg" != host ] || arg=host,-arch-capabilities
    set -- "\$@" "\$arg"
done
exec $(command -v "$qemu") "\$@"
N
chmod +x "$tmp/path/$qemu"
PATH=$tmp/path:$PATH

believe_kvm "$image"

run mvm up "$image" --name a --cold --json
is 'the test guest boots with KVM' "$status/$(json .accel)/$(json .mode)" 0/kvm/cold
echo "# hello after $(json .timings.guest_ready_ms) ms by its own account; ready after $(json .ready_ms) ms in all"
is 'a program runs in it' "$(mvm exec a -- echo hello)" hello
is 'what goes in comes out' "$(seq 10000 | mvm exec a -- cat | cksum)" "$(seq 10000 | cksum)"
mvm exec a -- sh -c 'echo kept >/tmp/kept'
run mvm pause a
is 'it is paused' "$status/$(field a state)" 0/paused
run mvm resume a
is 'and goes on' "$status/$(mvm exec a -- cat /tmp/kept)" 0/kept
run mvm snapshot create a clean
is 'it is saved' "$status" 0
run mvm up --from a:clean --name b --json
is 'and continued with KVM' "$status/$(json .accel)/$(mvm exec b -- cat /tmp/kept)/$(mvm exec b -- hostname)" 0/kvm/kept/b
run mvm fork a c
is 'it is forked' "$status/$(mvm exec c -- hostname)" 0/c
mvm down b c >/dev/null
run mvm up "$image" --name w --json
is 'another makes a snapshot of its boot' "$status/$(json .accel)" 0/kvm
check 'the snapshot of its boot is kept' eventually 20 snapshot_kept
run mvm up "$image" --name x --json
is 'from which the next starts warm' "$status/$(json '.accel + " " + .mode')/$(mvm exec x -- hostname)" '0/kvm warm/x'
run mvm exec w -- halt
has 'a halt is noticed' "$status $err" '^125 .*the guest has halted'
mvm exec x -- crash 2>/dev/null
has_ended() { [ "$(field "$1" supervisor_pid)" = 0 ]; }
check 'a crash ends the VM' eventually 10 has_ended x
has 'and is told' "$(field x ended)" 'Kernel panic - not syncing: a program asked for it'
run mvm down a
is 'one that is asked powers off' "$status/$(field a state)" 0/
finish
