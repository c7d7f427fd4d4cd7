#!/bin/sh
# Snapshots that a user makes, copies of running VMs, and VMs that stand still; what of it only Linux shows is in
# tests/e2e/37-snapshots.t.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
snapshots=$MVM_HOME/snapshots
image=$tmp/image
test_image "$image"
count() { mvm exec "$1" -- lines /run/count; }
counts_on() { [ "$(count "$1")" -gt "$2" ]; }
in_vm() { name=$1 && shift && mvm exec "$name" -- sh -c "$*"; }
identity() { in_vm "$1" 'seed; hostname'; }

# A VM with a file, a program that counts, and one that somebody runs with exec.
run mvm up "$image" --name web
is 'a VM is up' "$status" 0
in_vm web 'echo kept >/etc/kept; count /run/count &'
mkfifo "$tmp/talk"
mvm exec web -- sh -c 'echo there; cat' <"$tmp/talk" >"$tmp/heard" &
talker=$!
exec 5>"$tmp/talk"
check 'a program listens in the VM' eventually 20 grep -q there "$tmp/heard"
check 'and another one counts' eventually 20 mvm exec web -- test -s /run/count

run mvm snapshot create web clean --json
is 'a running VM is saved' "$status/$(json '.name + ":" + .tag')" 0/web:clean
check 'how long it stood still is said' test "$(json '.stopped_ms > 0')" = true
before=$(count web)
echo you >&5
check 'it goes on, and so does what runs in it' eventually 20 grep -q '^you' "$tmp/heard"
check 'it counts on' eventually 20 counts_on web "$before"
is 'the snapshot is for its owner alone' "$(stat -c %a "$snapshots/web/clean" "$snapshots/web/clean/state" | tr '\n' ' ')" '700 400 '
is 'it is listed' "$(mvm snapshot ls web --names)" web:clean
is 'with its size' "$(mvm snapshot ls --json | jq '.snapshots | length, (.[0].bytes > 100000), .[0].memory_mib' | tr '\n' ' ')" '1 true 32 '
run mvm snapshot create web clean
is 'a tag is not used twice' "$status" 14
run mvm snapshot create web
is 'without a tag it gets the time' "$status/$(mvm snapshot ls web --names | grep -cE '^web:[0-9]{8}-[0-9]{6}$')" 0/1
run mvm snapshot rm web
has 'rm asks which one is meant' "$err" "'web' has 2 snapshots"
run mvm snapshot rm web "$(mvm snapshot ls web --names | sed -n '/clean/!s/.*://p')"
is 'the named one is removed' "$status/$(mvm snapshot ls --names)" 0/web:clean

# Its image goes; two VMs continue from it.
in_vm web 'echo changed >/etc/kept'
mv "$image" "$tmp/moved"
run mvm up --from web:clean --name one --json
is 'a VM continues from it without the image' "$status/$(json '.mode + " " + .from')" '0/warm web:clean'
run mvm up --from web --name two --json
is 'another one, from the newest' "$status" 0
is 'its files are as they were' "$(in_vm one cat /etc/kept)" kept
at=$(count one)
check 'the program counts on from where it was' eventually 20 counts_on one "$at"
has_not 'what a client ran is ended in the copy' "$(in_vm one ps)" '^cat$'
has 'but not in the original' "$(in_vm web ps)" '^cat$'
difference=$(($(date +%s) - $(in_vm one date)))
check 'it has the right time' test "$difference" -ge -20 -a "$difference" -le 2 # it is asked after the host
is 'and its name' "$(in_vm one hostname)" one
is 'and its address' "$(field one address)" 10.0.2.15/24
for vm in web one two; do identity $vm; done >"$tmp/ids"
is 'seeds and names differ in all three' "$(sort "$tmp/ids" | uniq -d)/$(wc -l <"$tmp/ids")" /6
in_vm one 'echo one >/etc/mine'
is 'what one writes the other does not see' "$(in_vm two 'cat /etc/mine || echo none')" none
run mvm snapshot create one again --json
is 'a copy can be saved as well' "$status" 0
run mvm up --from one:again --name three --json
is 'and continued' "$status/$(in_vm three cat /etc/kept '&&' cat /etc/mine | tr '\n' ' ')" '0/kept one '
mvm down two three >/dev/null

# A fork: both go on, each with its own.
run mvm fork one other --json
is 'a running VM is copied' "$status/$(json '.name + " " + .mode')" '0/other warm'
check 'how long it stood still is said' test "$(json '.stopped_ms > 0')" = true
in_vm other 'echo other >/etc/mine'
in_vm one 'echo still one >/etc/mine'
is 'both have what was there, and then their own' "$(in_vm other 'cat /etc/kept /etc/mine' | tr '\n' ' ')$(in_vm one cat /etc/mine)" 'kept other still one'
for vm in one other; do identity $vm; done >"$tmp/ids"
is 'their seeds and names differ' "$(sort "$tmp/ids" | uniq -d)" ''
is 'nothing is left of the copying' "$(find "$snapshots" -name '.new-*')" ''
run mvm fork one other
has 'a name that is taken is refused' "$err" "vm 'other' runs already"
is 'and leaves nothing' "$(find "$snapshots" -name '.new-*')" ''
run mvm fork one builder
is "a builder's name is refused" "$status" 2
mvm down other >/dev/null

# Standing still.
run mvm pause web --json
is 'a VM is paused' "$status/$(json .state)/$(field web state)" 0/paused/paused
run mvm exec web -- true
is 'exec in it is refused' "$status" 125
has 'exec in a paused VM names the way out' "$err" 'hint: mvmctl resume web'
run mvm cp web:/run/count "$tmp/no"
is 'so is copying from it' "$status" 14
has 'cp names the way out, too' "$err" 'hint: mvmctl resume web'
mvm pause one
run mvm snapshot create one no
is 'so is saving one' "$status" 14
has 'because it is paused' "$err" "vm 'one' is not saved: it is paused"
has 'and so does snapshot create' "$err" 'hint: mvmctl resume one'
run mvm pause web
has 'and pausing it twice' "$err" 'it is paused already'
"$MVMCTL" resume nosuch >/dev/null 2>&1
is 'of a VM that is not there' "$?" 14
run mvm resume web
at=$(count web)
is 'it goes on' "$status/$(field web state)" 0/ready
check 'and counts on' eventually 20 counts_on web "$at"
echo again >&5
check 'what ran in it hears again' eventually 20 grep -q '^again' "$tmp/heard"
check 'a paused VM can be stopped' mvm down one
exec 5>&-
wait $talker
is 'what a client ran ends with its input' $? 0
mvm down web >/dev/null

# Killed in the middle, of a guest with much to save: nothing is left, the VM goes on.
mv "$tmp/moved" "$image"
mvm up "$image" --name big --memory 1G --cold >/dev/null
mvm exec big -- fill /tmp/big 200000000
# begins NAME: a snapshot of that tag is in the making, or over before that could be seen.
begins() {
    "$MVMCTL" snapshot create big "$1" >"$tmp/out" 2>&1 &
    maker=$!
    until ls -d "$snapshots"/.new-* >/dev/null 2>&1; do kill -0 $maker 2>/dev/null || return 1; done
}
kill_create() {
    for _ in 1 2 3 4 5; do
        begins killed && kill -KILL $maker
        wait $maker 2>/dev/null
        [ -e "$snapshots/big/killed" ] || return 0
        mvm snapshot rm big killed
    done
    return 1
}
check 'mvmctl is killed while it saves' kill_create
check 'the VM answers' mvm exec big -- true
is 'there is no such snapshot' "$(mvm snapshot ls big --names)" ''
check 'the next one is made' eventually 5 mvm snapshot create big next
is 'and nothing is left of the other' "$(find "$snapshots" -name '.new-*')" ''
run mvm snapshot rm big:next --json
is 'it is removed' "$(json '.removed | join(" ")')" big:next
check 'another one begins' begins killed
kill -KILL "$(supervisors)"
code=0
wait $maker || code=$?
[ $code != 0 ] || mvm snapshot rm big killed >/dev/null # it was faster
check 'its supervisor is killed: that is an error, or it was done' test $code = 14 -o $code = 0
is 'and leaves nothing' "$(find "$snapshots" -name '.new-*')/$(mvm snapshot ls big --names)" /
mvm down big >/dev/null

# No room: nothing is left, the VM goes on.
mkdir "$tmp/aside" && mv "$snapshots" "$tmp/aside/"
mkdir "$snapshots"
# The supervisor knows the folder that is there when it starts: the VM is started behind the mount, and the room used up then.
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=60m tmpfs "$snapshots" 2>/dev/null; then
    mvm up "$image" --name full --memory 128M --cold >/dev/null
    mvm exec full -- fill /tmp/much 30000000
    head -c "$(($(df --output=avail -k "$snapshots" | tail -n 1) * 1024 - 20000000))" /dev/zero >"$snapshots/.filler"
    run mvm snapshot create full big
    is 'no room for a snapshot' "$status" 14
    has 'which is said' "$err" 'no room on the disk'
    is 'it leaves nothing' "$(mvm snapshot ls --names)$(find "$snapshots" -name '.new-*')" ''
    check 'and the VM answers' mvm exec full -- true
    mvm down full >/dev/null
    umount "$snapshots"
else
    for name in 'no room for a snapshot' 'which is said' 'it leaves nothing' 'and the VM answers'; do
        skip "$name" 'only root can mount'
    done
fi
rmdir "$snapshots"
mv "$tmp/aside/snapshots" "$snapshots"

# What does not fit or is damaged is refused and kept; it never boots instead.
refused() {
    run mvm up --from web:clean --name bad
    is "$1" "$status" 14
    has 'the reason is said' "$err" "cannot be continued: $2"
    is 'nothing is started' "$(mvm ls --names)$(vm_processes)" ''
}
state=$snapshots/web/clean
cp -a "$state" "$tmp/good"
again() { rm -rf "$state" && cp -a "$tmp/good" "$state"; }
chmod u+w "$state/state"
printf X | dd of="$state/state" bs=1 seek=100000 conv=notrunc 2>/dev/null
refused 'a damaged state' "the snapshot's file 'state' has another content"
again
jq '.backend = "another"' "$tmp/good/meta.json" >"$tmp/meta" && cp -f "$tmp/meta" "$state/meta.json"
refused 'T9: a changed description' "the snapshot's description is damaged"
echo '{' >"$tmp/meta" && cp -f "$tmp/meta" "$state/meta.json"
refused 'a damaged description' "the snapshot's description is damaged"
has 'which ls says' "$(mvm snapshot ls)" '^web +clean +damaged'
again
run mvm up --from web:clean --name good
is 'whole again, it is continued' "$status" 0
mvm down good >/dev/null

run mvm snapshot rm one --all
is 'all of a VM are removed' "$status/$(mvm snapshot ls --names)" 0/web:clean
mvm snapshot rm web clean >/dev/null
is 'with the last one the image goes' "$(find "$snapshots" -mindepth 1 ! -name .lock)" "$snapshots/.images"
run mvm snapshot rm web clean
has 'one that is not there' "$err" 'there is no snapshot web:clean'
is 'no VM is left' "$(vm_processes)" ''
finish
