#!/bin/sh
# VMs of Firecracker: the stand-in of tests/fake, which takes what its API describes and has the test guest in QEMU behind it, and
# the real one where there is one that this host's KVM can run (MVM_TEST_FIRECRACKER, or on PATH). The verdict on KVM is
# overridden in this test's own folder alone.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
image=$tmp/image
test_image "$image"
real=${MVM_TEST_FIRECRACKER:-$(command -v firecracker)}
FAKE_FIRECRACKER_LOG=$tmp/requests
export FAKE_FIRECRACKER_LOG
mkdir -p "$tmp/fake" "$tmp/real"
ln -s "$MVM_SOURCE/tests/fake/firecracker" "$tmp/fake/firecracker"
without=$PATH
vmm() { mvm up "$image" --hypervisor firecracker --network none "$@"; }
# In one line, behind the status.
told() { printf '%s %s' "$status" "$err" | tr '\n' ' '; }
has_ended() { [ "$(field "$1" supervisor_pid)" = 0 ]; }
no_process() { ! pgrep -f -- "$tmp/fake/firecracker" >/dev/null; }
# Of a VMM and, in the stand-in, the guest behind it.
processes() { echo "$(field "$1" vmm_pid) $(pgrep -P "$(field "$1" vmm_pid)" | tr '\n' ' ')"; }
all_gone() { for pid; do ! kill -0 "$pid" 2>/dev/null || return 1; done; }

# serves WHICH: what a user does with a VM.
serves() {
    run vmm --name a.b_c --cold --json
    is "$1: a guest boots" "$status/$(json .backend)/$(json .accel)/$(json .mode)" 0/firecracker/kvm/cold
    is "$1: a program runs in it" "$(mvm exec a.b_c -- echo hello)" hello
    is "$1: what goes in comes out" "$(seq 10000 | mvm exec a.b_c -- cat | cksum)" "$(seq 10000 | cksum)"
    mvm exec a.b_c -- sh -c 'echo kept >/tmp/kept'
    run mvm pause a.b_c
    is "$1: it is paused" "$status/$(field a.b_c state)" 0/paused
    run mvm resume a.b_c
    is "$1: it goes on" "$status/$(mvm exec a.b_c -- cat /tmp/kept)" 0/kept
    run mvm snapshot create a.b_c clean
    is "$1: one that goes on is not saved" "$status/$(field a.b_c state)" 14/ready
    has "$1: which is said" "$err" 'cannot save a guest that goes on'
    run mvm exec a.b_c -- crash
    check "$1: a crash ends the VM" eventually 20 has_ended a.b_c
    has "$1: and is told" "$(field a.b_c ended)" 'Kernel panic - not syncing: a program asked for it'
    run vmm --name w --json
    is "$1: another makes a snapshot of its boot" "$status/$(json .mode)/$(mvm exec w -- hostname)" 0/cold/w
    check "$1: the snapshot of its boot is kept" eventually 30 snapshot_kept
    run vmm --name x --json
    is "$1: from which the next starts warm" "$status/$(json .mode)/$(mvm exec x -- hostname)" 0/warm/x
    is "$1: its agent works" "$(seq 10000 | mvm exec x -- cat | cksum)" "$(seq 10000 | cksum)"
    run mvm down x
    is "$1: one that is asked powers off" "$status/$(field x state)" 0/
    processes=$(processes w)
    kill -9 "$(field w supervisor_pid)"
    # shellcheck disable=SC2086 # words
    check "$1: a VMM whose supervisor is killed is gone, too" eventually 20 all_gone $processes
    mvm down --all >/dev/null 2>&1
    rm -rf "$MVM_CACHE_DIR/snapshots"
}

# ---- What is refused before anything starts ----

PATH=$tmp/fake:$without
run vmm --name t
case $(jq -r .accel "$MVM_HOME/run/accel.json") in
kvm) mvm down t >/dev/null ;;
*)
    has 'without KVM that can be believed it is not started, and what could be is said' "$(told)" \
        '^14 .*firecracker needs hardware acceleration: .*use --hypervisor qemu'
    ;;
esac
believe_kvm "$image"
run mvm up "$image" --name n --hypervisor firecracker
has 'it has no network, and who has one is said' "$(told)" '^14 .*no network here.*--network none, or --hypervisor qemu'
sed 's/"vsock",//' "$image/image.json" >"$tmp/offers" && cp -r "$image" "$tmp/deaf" && cp "$tmp/offers" "$tmp/deaf/image.json"
run mvm up "$tmp/deaf" --name n --hypervisor firecracker --network none
has 'a kernel without virtio sockets is refused' "$(told)" '^14 .*offers mmio-cmdline, console: firecracker wants vsock'
run env FAKE_FIRECRACKER=old "$MVMCTL" up "$image" --name n --hypervisor firecracker --network none
has 'an earlier version is refused by number' "$(told)" '^14 .*Firecracker v1.11.2: 1.12 or later is needed'
run mvm doctor --json
has 'doctor knows it' "$(json '.checks[] | select(.name == "firecracker") | .state + " " + .detail')" '^ok installed; --hypervisor asks for it'

# ---- Which one a VM gets ----

cp -r "$image" "$tmp/sockets"
sed -i 's/,"console"//' "$tmp/sockets/image.json"
run mvm up "$tmp/sockets" --name c --network none --cold --json
is 'a VM gets the first that can run it' "$status/$(json .backend)/$(mvm exec c -- hostname)" 0/firecracker/c
run env MVM_ACCEL=tcg "$MVMCTL" up "$image" --name d --network none --cold --hypervisor auto --json
is 'which is QEMU where both can' "$status/$(json .backend)" 0/qemu
run mvm up "$tmp/sockets" --name e --cold
has 'where none can, what is said of the first is told' "$(told)" '^14 .*qemu wants console'
mvm down c d >/dev/null
printf '[boot]\nhypervisor = "firecracker"\n' >"$MVM_HOME/config.toml"
run mvm up "$image" --name c --network none --cold --json
is 'config.toml says otherwise' "$status/$(json .backend)" 0/firecracker
run env MVM_ACCEL=tcg "$MVMCTL" up "$image" --name d --network none --cold --hypervisor qemu --json
is 'and --hypervisor comes first' "$status/$(json .backend)" 0/qemu
mvm down c d >/dev/null
printf '[boot]\nhypervisor = "xen"\n' >"$MVM_HOME/config.toml"
run mvm up "$image" --name d
has 'one that is none is refused' "$(told)" "hypervisor 'xen': no such backend"
rm "$MVM_HOME/config.toml" "$tmp/requests"

# ---- The stand-in ----

serves 'the stand-in'
is 'no request was other than the API describes' "$(grep refused "$tmp/requests")" ''
is 'a machine is told in this order, and then started' "$(sed 's/ {.*//' "$tmp/requests" | head -n 6 | tr '\n' ' ')" \
    'PUT /machine-config PUT /boot-source PUT /vsock PUT /entropy PUT /drives/disk0 PUT /actions '

# What it takes, held against Firecracker's own description, where there is one: in MVM_TEST_SPEC_DIR or beside the sources.
spec=${MVM_TEST_SPEC_DIR:-$MVM_SOURCE/../shared/spec}/firecracker-api.yaml
differences=$(python3 "$MVM_SOURCE/tests/lib/firecracker-api.py" "$MVM_SOURCE/tests/fake/firecracker" "$spec" 2>&1)
case $? in
0) is 'the stand-in takes what the description says, no less and no more' "$differences" '' ;;
*) skip 'the stand-in takes what the description says' "the description or a reader of YAML is missing: $(echo "$differences" | tail -n 1)" ;;
esac

# fails FAULT WORDS: a start that meets that fault fails, with these words, and leaves nothing.
fails() {
    run env FAKE_FIRECRACKER="$1" "$MVMCTL" up "$image" --name f --hypervisor firecracker --network none --cold --timeout "${3:-60}"
    has "a VMM that does this is told ($1)" "$(told)" "^14 .*$2"
    check 'and no process of it stays' eventually 20 no_process
    mvm down f >/dev/null 2>&1
}
fails deaf 'the VMM ended before it took commands'
for path in /machine-config /drives/disk0 /actions; do
    fails "refuse:$path" "firecracker: $path: An error occurred, as documented"
done
fails garbage:/vsock 'firecracker: its API: that is no answer'
fails twice:/actions 'firecracker: its API: that is no answer'
fails die:/boot-source 'firecracker ended with status 137'
fails half:/entropy 'not ready within 2' 2
FAKE_FIRECRACKER=late:/vsock
export FAKE_FIRECRACKER
run vmm --name late --cold
is 'one that answers late is waited for' "$status/$(mvm exec late -- hostname)" 0/late
mvm down late >/dev/null
FAKE_FIRECRACKER=refuse:/vm
run vmm --name p --cold
run mvm pause p
has 'a pause that is refused is told' "$(told)" 'An error occurred, as documented'
is 'and the guest runs on' "$(field p state)/$(mvm exec p -- hostname)" ready/p
mvm down p >/dev/null
for fault in refuse die garbage; do
    FAKE_FIRECRACKER=$fault:/snapshot/create
    run vmm --name s --json
    is "a guest that cannot be saved runs all the same ($fault)" "$status/$(json .mode)/$(mvm exec s -- hostname)" 0/cold/s
    mvm down s >/dev/null
done
FAKE_FIRECRACKER=
run vmm --name w --json
check 'the snapshot of a boot is kept' eventually 30 snapshot_kept
mvm down w >/dev/null
for fault in refuse die; do
    FAKE_FIRECRACKER=$fault:/snapshot/load
    run vmm --name s --json
    is "a guest that cannot be restored boots ($fault)" "$status/$(mvm exec s -- hostname)" 0/s
    mvm down s >/dev/null
done
unset FAKE_FIRECRACKER

# ---- The real one ----

rm -rf "$MVM_CACHE_DIR/snapshots"
if [ ! -x "$real" ]; then
    skip 'the real Firecracker serves' 'there is none: MVM_TEST_FIRECRACKER or PATH names it'
elif ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
    skip 'the real Firecracker serves' 'there is no /dev/kvm here'
else
    ln -s "$real" "$tmp/real/firecracker"
    PATH=$tmp/real:$without
    echo "# $(firecracker --version | head -n 1)"
    serves 'the real one'
fi
finish
