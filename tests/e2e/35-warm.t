#!/bin/sh
# Warm snapshots: what is shared by the VMs of an image, what must not be, and what happens to a snapshot that does not fit.
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

# Starts `a` and stops it again; $out is its JSON, $log what the agent's log says about snapshots.
boot() {
    run mvm up --flake "$flake" --name a --json "$@"
    log=$(grep '^mvm: .*snapshot' "$MVM_HOME/vms/a/agent.log" 2>/dev/null || :)
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
# The flag hg: large pages were asked for. glibc does that where the host gives them to those who ask.
if grep -q '\[madvise\]' /sys/kernel/mm/transparent_hugepage/enabled; then
    heap=$(sed -n '/\[heap\]/,/^VmFlags/p' "/proc/$(vm_processes)/smaps")
    has "QEMU's heap is of large pages" "$heap" '^VmFlags:.* hg( |$)'
else
    skip "QEMU's heap is of large pages" 'this host does not give them on request'
fi
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

# A hundred VMs of one snapshot, some at once: what is random or an identity is different in each.
rounds=100
# shellcheck disable=SC2016 # the guest's shell
seq $rounds | xargs -P 4 -I '{}' "$MVMCTL" exec --flake "$flake" -- sh -c \
    'echo $(head -c 16 /dev/urandom | md5sum) $(cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id /etc/machine-id)' >"$tmp/lines"
tr ' ' '\n' <"$tmp/lines" | grep -v '^-*$' >"$tmp/ids"
is 'a hundred VMs say their random numbers and ids' "$(wc -l <"$tmp/ids")" $((rounds * 4))
is 'and none is said twice' "$(sort "$tmp/ids" | uniq -d)" ''
is 'they leave nothing' "$(ls "$MVM_HOME/vms")$(vm_processes)" ''

boot --cold
is '--cold boots' "$(mode)" 'cold: it was asked for'
down
boot
is 'and keeps the snapshot' "$(mode)" 'warm: '
down
printf '[boot]\nsnapshots = false\n' >"$MVM_HOME/config.toml"
boot
is 'with boot.snapshots = false every VM boots' "$(mode)" 'cold: boot.snapshots is false in config.toml'
down
rm "$MVM_HOME/config.toml"

# A snapshot that does not fit is dropped, the VM boots and makes another (tests/unit/test-machine.c has every reason).
printf 'X' | dd of="$snap/memory" bs=1 seek=20000000 conv=notrunc 2>/dev/null
boot
is 'with changed memory the VM boots' "$(mode)" "cold: the snapshot's file 'memory' has another content than recorded"
down
boot
is 'and leaves a new snapshot' "$(mode)" 'warm: '
down
# Sealed as mvmctl does it: the last field is the digest of all bytes before it.
edit() {
    jq "$1" "$snap/meta.json" | head -c -68 >"$tmp/meta"
    { cat "$tmp/meta" && printf '%s"\n}\n' "$(sha256sum <"$tmp/meta" | cut -d' ' -f1)"; } >"$tmp/sealed"
    cp -f "$tmp/sealed" "$snap/meta.json"
}
# What the backend itself refuses is dropped within the same command.
chmod u+w "$snap/state"
echo 'no state at all' >"$snap/state"
sum=$({ head -c 8 /dev/zero && cat "$snap/state"; } | sha256sum | cut -d' ' -f1) # blocks, each behind its offset
edit ".state = {size: 16, sha256: \"$sum\"}"
boot
is 'a state that the backend refuses: the VM boots in the same command' "$(mode)" 'cold: restoring the snapshot failed: the state could not be written or read'
has 'and it is said' "$log" 'the snapshot is dropped'
check 'it answers' mvm exec a -- true
down
check 'the snapshot is gone' test ! -e "$snap"

# A VMM that is killed or does not answer says nothing about the snapshot. A script stands in the place of QEMU.
mkdir "$tmp/slow"
cat >"$tmp/slow/qemu-system-$(uname -m)" <<N
#!/bin/sh
case "\$*" in *-incoming*)
    [ ! -e "$tmp/killed" ] || kill -9 \$\$
    [ ! -e "$tmp/hangs" ] || exec sleep 100
    ;;
esac
exec $(command -v "qemu-system-$(uname -m)") "\$@"
N
chmod +x "$tmp/slow/qemu-system-$(uname -m)"
path=$PATH
PATH=$tmp/slow:$PATH
boot
kept() { [ -s "$snap/meta.json" ]; }
check 'another VMM has a snapshot of its own' eventually 60 kept
down
touch "$tmp/killed"
boot
is 'R9: a VM whose VMM is killed while it restores boots in the same command' "$(mode)" 'cold: restoring the snapshot failed: the backend ended'
has 'R9: and says that the snapshot stays' "$log" 'the snapshot is kept, and not used: the backend ended'
down
mv "$tmp/killed" "$tmp/hangs"
boot --timeout 40
is 'R9: so does one whose VMM does not answer' "$(mode)" 'cold: restoring the snapshot failed: the guest did not answer in time'
down
rm "$tmp/hangs"
boot
is 'R9: and the next continues from the snapshot' "$(mode)" 'warm: '
down
PATH=$path
rm -rf "$snap"

# Two first boots at once: one makes the snapshot.
mvm up --flake "$flake" --name p1 --json >"$tmp/p1" 2>&1 &
p1=$!
mvm up --flake "$flake" --name p2 --json >"$tmp/p2" 2>&1 &
p2=$!
wait $p1
wait $p2
is 'two first boots at once are both ready' "$(cat "$tmp/p1" "$tmp/p2" | grep -c '"status":"ok"')" 2
mvm down p1 p2 >/dev/null
boot
is 'and leave one snapshot' "$(mode)/$(find "$snapshots/$image" -name meta.json | wc -l)" 'warm: /1'
down

# The supervisor is killed while it makes one. Making one can be over before the kill: then once more.
for _ in 1 2 3 4 5; do
    rm -rf "$snapshots/$image/200m-1c"
    "$MVMCTL" up --flake "$flake" --name k --memory 200M >"$tmp/k" 2>&1 &
    pid=$!
    eventually 20 test -e "$snapshots/$image/.200m-1c.new"
    kill -KILL "$(supervisors)"
    wait $pid || :
    [ -e "$snapshots/$image/200m-1c" ] || break
done
check 'a snapshot in the making is killed' test -e "$snapshots/$image/.200m-1c.new" -a ! -e "$snapshots/$image/200m-1c"
check 'killed, it leaves no VMM' eventually 5 test -z "$(vm_processes)"
boot --memory 200M
eventually 20 test -e "$snapshots/$image/200m-1c" # it is hashed while the VM runs
is 'the next one makes it' "$(mode)/$(ls "$snapshots/$image")" "cold: there was no snapshot of this image yet/$(printf '200m-1c\n256m-1c\nimage')"
down

# Without room there is none, and the VM boots.
rm -rf "${snapshots:?}/$image"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=20m tmpfs "$snapshots" 2>/dev/null; then
    boot
    is 'no room for a snapshot: the VM boots' "$status/$(mode)" '0/cold: there was no snapshot of this image yet'
    has 'and it is said why not' "$log" "no snapshot is made: no room for the snapshot's memory"
    down
    umount "$snapshots"
else
    skip 'no room for a snapshot: the VM boots' 'only root can mount'
    skip 'and it is said why not' 'only root can mount'
fi

# Snapshots go with their image: one in a folder, then one in the cache.
cp -r "$folder" "$tmp/image"
run mvm up "$tmp/image" --name f --json
is 'an image in a folder boots' "$status" 0
mvm down f >/dev/null
run mvm up "$tmp/image" --name f --json
is 'and is restored' "$(json .mode)" warm
mvm down f >/dev/null
chmod u+w "$tmp/image"
touch "$tmp/image/rootfs.ext4"
run mvm up "$tmp/image" --name f --json
is 'touched, it boots' "$(mode)" 'cold: there was no snapshot of this image yet'
mvm down f >/dev/null
is "the snapshot of what it was is gone" "$(grep -rlx "$tmp/image" "$snapshots" | wc -l)" 1
chmod -R u+w "$tmp/image"
rm -r "$tmp/image"
boot
down
is 'without the folder both are' "$(grep -rlx "$tmp/image" "$snapshots" | wc -l)" 0
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
