#!/bin/sh
# Warm snapshots: what is shared by the VMs of an image, and what happens to a snapshot that does not fit; what of it only
# Linux and images of flakes show is in tests/e2e/35-warm.t.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
snapshots=$MVM_CACHE_DIR/snapshots
image=$tmp/image
test_image "$image"
here() { grep -lxF "$image" "$snapshots"/*/image 2>/dev/null | xargs -r dirname; }

# Starts `a`; $out is its JSON, $log what the agent's log says about snapshots.
boot() {
    run mvm up "$image" --name a --json "$@"
    log=$(grep '^mvm: .*snapshot' "$MVM_HOME/vms/a/agent.log" 2>/dev/null || :)
    [ "$status" = 0 ] || printf '%s\n' "$err" | say
}
down() { mvm down a >/dev/null; }
mode() { json '.mode + ": " + (.cold_reason // "")'; }

boot
snap=$(here)/32m-1c
is 'the first boot is cold' "$(mode)" 'cold: there was no snapshot of this image yet'
is 'T6: the memory is hashed when it is saved, before the guest goes on' \
    "$(json '[.timings.steps[].name | select(. == "save" or . == "measure" or . == "restore" or . == "configure")] | join(" ")')" \
    'save measure restore configure'
is 'and answers' "$(mvm exec a -- hostname)" a
down
check 'it leaves a snapshot' test -s "$snap/meta.json" -a -s "$snap/state" -a -s "$snap/memory"
is 'and nothing half made' "$(find "$snapshots" -name '*.new')" ''
before=$(sha256sum "$snap/memory" "$snap/state")
boot
is 'the second is warm' "$(mode)" 'warm: '
is 'the guest answers by its own name' "$(mvm exec a -- hostname)" a
is 'it has its address' "$(json .address)" 10.0.2.15/24
difference=$(($(date +%s) - $(mvm exec a -- date)))
check 'and the right time' test "$difference" -ge -20 -a "$difference" -le 2 # it is asked after the host
# The flag hg: large pages were asked for. glibc does that where the host gives them to those who ask.
if grep -q '\[madvise\]' /sys/kernel/mm/transparent_hugepage/enabled; then
    heap=$(sed -n '/\[heap\]/,/^VmFlags/p' "/proc/$(vm_processes)/smaps")
    has "QEMU's heap is of large pages" "$heap" '^VmFlags:.* hg( |$)'
else
    skip "QEMU's heap is of large pages" 'this host does not give them on request'
fi
# What QEMU does by itself: a guest with nothing to do adds nothing to it.
wakes() { awk '/^voluntary/ { print $2 }' "/proc/$(vm_processes)/status"; }
earlier=$(wakes)
sleep 2
later=$(wakes)
check "a guest with nothing to do rests ($((later - earlier)) wakes in 2 s)" test $((later - earlier)) -lt 100
run mvm up "$image" --name b --json
is 'another beside it is warm' "$(mode)" 'warm: '
mvm exec a -- fill /tmp/x 4000000
mvm exec a -- sh -c 'echo mine >/etc/mine'
is 'what one writes the other does not see' "$(mvm exec b -- ls | grep -cE '/tmp/x|/etc/mine')" 0
mvm down a b >/dev/null
is 'nothing was written to the snapshot' "$(sha256sum "$snap/memory" "$snap/state")" "$before"

# A hundred VMs of one snapshot, some at once: each has a seed of its own. The release build is quicker.
seq 100 | MVMCTL=$MVM_RELEASE/mvmctl xargs -P 4 -I '{}' sh -c \
    "\"\$MVMCTL\" up '$image' --name 'v{}' >/dev/null 2>&1 && \"\$MVMCTL\" exec 'v{}' -- seed; \"\$MVMCTL\" down 'v{}' >/dev/null" >"$tmp/ids"
is 'a hundred VMs say their seeds' "$(grep -c . "$tmp/ids")" 100
is 'and none is said twice' "$(sort "$tmp/ids" | uniq -d)" ''
is 'they leave nothing' "$(mvm ls --names)$(vm_processes)" ''

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
boot --timeout 12
is 'R9: so does one whose VMM does not answer' "$(mode)" 'cold: restoring the snapshot failed: the guest did not answer in time'
down
rm "$tmp/hangs"
boot
is 'R9: and the next continues from the snapshot' "$(mode)" 'warm: '
down
PATH=$path
rm -rf "$snap"

# Two first boots at once: one makes the snapshot.
mvm up "$image" --name p1 --json >"$tmp/p1" 2>&1 &
p1=$!
mvm up "$image" --name p2 --json >"$tmp/p2" 2>&1 &
p2=$!
wait $p1
wait $p2
is 'two first boots at once are both ready' "$(cat "$tmp/p1" "$tmp/p2" | grep -c '"status":"ok"')" 2
mvm down p1 p2 >/dev/null
boot
is 'and leave one snapshot' "$(mode)/$(find "$snapshots" -name meta.json | wc -l)" 'warm: /1'
down

# The supervisor is killed while it makes one. Making one can be over before the kill: then once more.
folder=$(here)
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$folder/1024m-1c"
    "$MVMCTL" up "$image" --name k --memory 1G >"$tmp/k" 2>&1 &
    pid=$!
    until [ -e "$folder/.1024m-1c.new" ] || [ -e "$folder/1024m-1c" ] || ! kill -0 $pid 2>/dev/null; do :; done
    kill -KILL "$(supervisors)"
    wait $pid || :
    [ -e "$folder/1024m-1c" ] || break
done
check 'a snapshot in the making is killed' test -e "$folder/.1024m-1c.new" -a ! -e "$folder/1024m-1c"
check 'killed, it leaves no VMM' eventually 5 test -z "$(vm_processes)"
boot --memory 1G
eventually 20 test -e "$folder/1024m-1c" # it is hashed while the VM runs
is 'the next one makes it' "$(mode)/$(ls "$folder")" "cold: there was no snapshot of this image yet/$(printf '1024m-1c\n32m-1c\nimage')"
down

# Without room there is none, and the VM boots.
rm -rf "${folder:?}"
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

# Snapshots go with their image.
boot
down
boot
is 'an image in a folder is restored' "$(mode)" 'warm: '
down
touch "$image/rootfs.ext4"
boot
is 'touched, it boots' "$(mode)" 'cold: there was no snapshot of this image yet'
down
is 'the snapshot of what it was is gone' "$(grep -rlx "$image" "$snapshots" | wc -l)" 1
test_image "$tmp/image2"
mv "$image" "$tmp/gone"
run mvm up "$tmp/image2" --name a --json
down
is 'without the folder both are' "$(grep -rlx "$image" "$snapshots" | wc -l)" 0
finish
