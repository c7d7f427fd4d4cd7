#!/bin/sh
# Warm snapshots of Linux guests: what each VM has of its own, and a builder that is restored. The rest is tests/cli/warm.t.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
flake=$tmp/hello
snapshots=$MVM_CACHE_DIR/snapshots
example hello "$flake"
run mvm build --flake "$flake" --json
is 'an image is built' "$status" 0
image=$(json .image)
folder=$(dirname "$(json .kernel)")
rm -rf "${snapshots:?}/$image"
snap=$snapshots/$image/256m-1c

# Starts `a`; $out is its JSON.
boot() {
    run mvm up --flake "$flake" --name a --json
    [ "$status" = 0 ] || printf '%s\n' "$err" | say
}
down() { mvm down a >/dev/null; }
mode() { json '.mode + ": " + (.cold_reason // "")'; }

boot
is 'the first boot is cold' "$(mode)" 'cold: there was no snapshot of this image yet'
is 'T6: the memory is hashed when it is saved, before the guest goes on' \
    "$(json '[.timings.steps[].name | select(. == "save" or . == "measure" or . == "restore" or . == "configure")] | join(" ")')" \
    'save measure restore configure'
is 'and answers' "$(mvm exec a -- hello | cut -d, -f1)" 'Hello from a'
down
check 'it leaves a snapshot' test -s "$snap/meta.json" -a -s "$snap/state" -a -s "$snap/memory"
is 'and nothing half made' "$(find "$snapshots" -name '*.new')" ''
before=$(sha256sum "$snap/memory" "$snap/state")
boot
is 'the second is warm' "$(mode)" 'warm: '
has 'the guest answers by its own name' "$(mvm exec a -- hello)" '^Hello from a, a microVM'
has 'its service was started after the restore' "$(mvm logs a)" 'hello: Hello from a'
is 'it has its address' "$(mvm exec a -- sh -c 'ip addr show eth0 | grep -c 10.0.2.15')/$(json .address)" 1/10.0.2.15/24
difference=$(($(date +%s) - $(mvm exec a -- date +%s)))
check 'and the right time' test "$difference" -ge -20 -a "$difference" -le 2 # it is asked after the host
has 'and a machine id' "$(mvm exec a -- cat /etc/machine-id)" '^[0-9a-f]{32}$'
is 'and name servers' "$(mvm exec a -- cat /etc/resolv.conf)" 'nameserver 10.0.2.3'
# Nothing that ticks is left running in it: a guest that rests wakes QEMU's main loop some 30 times a second, one whose
# 8254 timer goes on 70 times. A busy host makes both fewer; the image's service may have to come to rest first.
wakes() { awk '/^voluntary/ { print $2 }' "/proc/$(vm_processes)/status"; }
rests() {
    for _ in 1 2 3 4 5 6; do
        earlier=$(wakes)
        sleep 5
        echo "$(($(wakes) - earlier)) wakes in 5 s"
        [ $(($(wakes) - earlier)) -ge 250 ] || return 0
    done
    return 1
}
check 'a guest with nothing to do rests' rests
run mvm up --flake "$flake" --name b --json
is 'another beside it is warm' "$(mode)" 'warm: '
mvm exec a -- sh -c 'head -c 60000000 /dev/urandom > /tmp/x; echo mine > /etc/mine'
is 'what one writes the other does not see' "$(mvm exec b -- sh -c 'ls /tmp/x /etc/mine 2>&1 | grep -c "No such"')" 2
mvm down a b >/dev/null
is 'nothing was written to the snapshot' "$(sha256sum "$snap/memory" "$snap/state")" "$before"

# Many VMs of one snapshot, some at once: what is random or an identity is different in each.
rounds=25
# shellcheck disable=SC2016 # the guest's shell
seq $rounds | xargs -P 4 -I '{}' "$MVMCTL" exec --flake "$flake" -- sh -c \
    'echo $(head -c 16 /dev/urandom | md5sum) $(cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id /etc/machine-id)' >"$tmp/lines"
tr ' ' '\n' <"$tmp/lines" | grep -v '^-*$' >"$tmp/ids"
is 'twenty-five VMs say their random numbers and ids' "$(wc -l <"$tmp/ids")" $((rounds * 4))
is 'and none is said twice' "$(sort "$tmp/ids" | uniq -d)" ''
is 'they leave nothing' "$(ls "$MVM_HOME/vms")$(vm_processes)" ''

chmod u+w "$folder/rootfs.ext4"
printf 'X' | dd of="$folder/rootfs.ext4" bs=1 seek=2000000 conv=notrunc 2>/dev/null
run mvm up --flake "$flake"
is 'a damaged image is not restored' "$status" 14
check 'its snapshots go with it' test ! -e "$snapshots/$image"

# The builder: its store's disk was not there when the snapshot was made.
# (Its snapshot is missed by a host too busy to hash it before the builder has ended: then once more.)
builders() { grep -lxF "$MVM_CACHE_DIR/builder-vm/$(uname -m)" "$snapshots"/*/image; }
for _ in 1 2 3 4 5; do
    mvm build --flake "$flake" --force >/dev/null 2>&1
    [ -z "$(find "$(dirname "$(builders)")" -name meta.json)" ] || break
done
ASAN_OPTIONS=detect_leaks=0 strace -f -e trace=execve -s 4000 -o "$tmp/trace" "$MVMCTL" build --flake "$flake" --force >"$tmp/build" 2>&1
is 'a build works in a restored builder' "$?" 0
is 'which was restored' "$(grep -v ENOENT "$tmp/trace" | grep -c 'execve(.*"-incoming"')/$(grep -c 'execve(.*"-kernel"' "$tmp/trace")" 1/0
check "the store's file system is sound" e2fsck -fn "$MVM_CACHE_DIR"/builder-vm/nix-store-*.img
finish
