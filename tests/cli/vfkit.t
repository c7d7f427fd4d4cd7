#!/bin/sh
# VMs of Apple Virtualization, as far as that is vfkit: a stand-in in its place takes the arguments and requests that vfkit
# documents, and has the test guest in QEMU behind it. Apple's framework itself has not been met (docs/platforms.md).
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
image=$tmp/image
test_image "$image"
cp -r "$image" "$tmp/mmio"
sed -i 's/"kernel_offers":[^]]*]/"kernel_offers":["pci","vsock"]/' "$image/image.json"
FAKE_VFKIT_LOG=$tmp/log
export FAKE_VFKIT_LOG
mkdir "$tmp/fake"
vmm() { mvm up "$image" --hypervisor apple-container "$@"; }
# In one line, behind the status.
said() { printf '%s %s' "$status" "$err" | tr '\n' ' '; }
has_ended() { [ "$(field "$1" supervisor_pid)" = 0 ]; }
no_process() { ! pgrep -f -- "$tmp/fake/vfkit|fake-vfkit .*$tmp/" >/dev/null; }

# ---- What is refused before anything starts ----

run vmm --name n
has 'where there is no vfkit that is said' "$(said)" '^14 .*vfkit is not installed.*macOS only'
ln -s "$MVM_SOURCE/tests/fake/vfkit" "$tmp/fake/vfkit"
PATH=$tmp/fake:$PATH
run env FAKE_VFKIT=old "$MVMCTL" up "$image" --name n --hypervisor vz
has 'an earlier version is refused by number' "$(said)" '^14 .*vfkit version: v0.5.1: 0.6 or later is needed'
run mvm up "$tmp/mmio" --name n --hypervisor vz
has 'a kernel without a PCI bus is refused' "$(said)" '^14 .*offers mmio-cmdline, vsock, console: apple-container wants vsock and pci'
printf '[boot]\nconfine = "required"\n' >"$MVM_HOME/config.toml"
run vmm --name n
has 'a VM that must be confined is not started' "$(said)" '^14 .*cannot be confined'
mvm down n >/dev/null 2>&1
rm "$MVM_HOME/config.toml"

# ---- What a user does with a VM ----

run env FAKE_VFKIT=frame "$MVMCTL" up "$image" --name a --hypervisor vz -p 0:80 -p 0:7 --json
is 'a guest boots, by the short name, too' "$status/$(json .backend)/$(json .mode)" 0/apple-container/cold
port=$(json '.ports[] | select(.guest_port == 80) | .host_port')
is 'a program runs in it' "$(mvm exec a -- echo hello)" hello
is 'what goes in comes out' "$(seq 20000 | mvm exec a -- cat | cksum)" "$(seq 20000 | cksum)"
is 'its status is the program'"'"'s' "$(mvm exec a -- sh -c 'exit 7'; echo $?)" 7
seq 5000 >"$tmp/in"
mvm cp "$tmp/in" a:/tmp/in && mvm cp a:/tmp/in "$tmp/out"
is 'a file is copied to it and back' "$(cksum <"$tmp/out")" "$(cksum <"$tmp/in")"
is 'a published port answers' "$(curl -s --noproxy '*' -m 10 "http://127.0.0.1:$port/")" hello
is 'the card'"'"'s frames are datagrams: the network answers them' "$(grep '^answer' "$tmp/log")" 'answer 10.0.2.2 True'
has 'logs has its console' "$(mvm logs a)" .
has 'no console and no card is any but these' "$(grep '^arguments' "$tmp/log")" \
    'virtio-vsock,port=1024,socketURL=.*,listen --device virtio-net,fd=[0-9]+,mac=.* --device virtio-rng --device virtio-serial,stdio$'
has 'its image is only read' "$(grep '^arguments' "$tmp/log")" 'virtio-blk,path=[^ ]*rootfs.ext4,readonly'
run mvm pause a
is 'a VM is paused' "$status/$(field a state)" 0/paused
run mvm resume a
is 'a VM that was paused goes on' "$status/$(mvm exec a -- cat /tmp/in | cksum)" "0/$(cksum <"$tmp/in")"
for command in 'snapshot create a clean' 'fork a b'; do
    # shellcheck disable=SC2086 # words
    run mvm $command
    has "what it has no saved states for is refused, and who has is said (${command%% *})" "$(said)" \
        '^14 .*cannot save a guest that goes on; one of --hypervisor qemu can'
    is 'and the guest runs on' "$(field a state)" ready
done
run mvm down a
is 'one that is asked powers off' "$status/$(field a state)" 0/
check 'and nothing of it stays' eventually 20 no_process
is 'no argument and no request was other than vfkit describes' "$(grep refused "$tmp/log")" ''
run vmm --name k
kill -9 "$(field k supervisor_pid)"
check 'a VMM whose supervisor is killed is gone, too' eventually 20 no_process
mvm down k >/dev/null 2>&1
run vmm --name c --network none
kill -9 "$(field c vmm_pid)"
check 'a VMM that is killed ends its VM' eventually 20 has_ended c
has 'which is told' "$(field c ended)" 'apple-container was killed by signal 9'
mvm down c >/dev/null 2>&1
run mvm up "$image" --name d --cold --json
is 'a VM gets it where it alone can run the image' "$status/$(json .backend)" 0/apple-container
mvm down d >/dev/null

# ---- What goes wrong ----

# fails FAULT WORDS: a start that meets that fault fails, with these words, and leaves nothing.
fails() {
    run env FAKE_VFKIT="$1" "$MVMCTL" up "$image" --name f --hypervisor vz --network none
    has "a VMM that does this is told ($1)" "$(said)" "^14 .*$2"
    check 'and no process of it stays' eventually 20 no_process
    mvm down f >/dev/null 2>&1
}
fails deaf 'the VMM ended before it took commands'
fails error 'ended'
FAKE_VFKIT=refuse:Pause
export FAKE_VFKIT
run vmm --name p --network none
run mvm pause p
has 'a pause that is refused is told' "$(said)" 'An error occurred'
is 'and the guest runs on' "$(field p state)/$(mvm exec p -- hostname)" ready/p
mvm down p >/dev/null
FAKE_VFKIT=late:Pause
run vmm --name p --network none
run mvm pause p
is 'one that answers late is waited for' "$status/$(field p state)" 0/paused
mvm down p >/dev/null
for fault in die garbage twice; do
    FAKE_VFKIT=$fault:Pause
    run vmm --name p --network none
    run mvm pause p
    check "a VMM that does this to a pause ends the VM, or is not read any more ($fault)" test "$(field p state)" != ready
    mvm down p >/dev/null 2>&1
    check 'and no process of it stays' eventually 20 no_process
done
finish
