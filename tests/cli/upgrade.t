#!/bin/sh
# An upgrade loses nothing: what an earlier mvmctl has started, saved and configured works with today's, or is refused with the
# reason. It runs the test guest; tests/nightly/47-upgrade.t has what needs a builder.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
# shellcheck source=tests/lib/earlier.sh
. "$(dirname "$0")/../lib/earlier.sh"
need_test_guest
build_earlier

# ---- What it leaves: settings, running VMs, one that has ended, a user's snapshot, a boot snapshot ----

image=$tmp/image
test_image "$image"
ours "$MVM_HOME" "$MVM_CACHE_DIR"
cat >"$MVM_HOME/config.toml" <<'N'
[images]
dev_url = "https://localhost/dev/"
builder_url = "file:///nowhere/"
public_keys = []
ca_file = "/etc/ssl/certs/ca-certificates.crt"
stall_seconds = 30

[builder]
memory = "1G"
cpus = 1
jobs = 4
store_size = "8G"
persistent = false
idle_timeout = 300

[nix]
substituters = ["https://localhost/"]
trusted_public_keys = []
access_tokens = ["localhost=token"]

[flake]
allow_inputs = ["/nowhere"]

[network]
http_proxy = "http://localhost:1/"
https_proxy = "http://localhost:1/"
no_proxy = "localhost"

[boot]
snapshots = true
confine = "auto"
N
chmod 600 "$MVM_HOME/config.toml"
run old up "$image" --name running --json
is "mvmctl of $commit boots the test guest" "$status/$(json .mode)" 0/cold
pid=$(json .supervisor_pid)
[ "$pid" != null ] || pid=$(field running supervisor_pid)
old exec running -- sh -c 'echo kept >/tmp/kept'
run old snapshot create running clean
is "mvmctl of $commit saves a snapshot" "$status" 0
check 'the snapshot of its boot is kept' eventually 20 snapshot_kept
run old up "$image" --name warm --json
is "mvmctl of $commit restores its boot snapshot" "$status/$(json .mode)" 0/warm
old up "$image" --name paused >/dev/null 2>&1
old pause paused >/dev/null
old up "$image" --name ended >/dev/null 2>&1
old exec ended -- poweroff

# ---- Settings ----

run mvm ls --json
is "a config.toml with every key of $commit is read" "$status" 0

# ---- VMs that run meanwhile ----

is "a running VM of $commit is listed" "$(field running state) $(field running supervisor_pid)" "ready $pid"
is "exec runs a program in a VM of $commit" "$(mvm exec running -- cat /tmp/kept)" kept
run mvm exec running -- exit 7
is "exec passes the exit status of a VM of $commit on" "$status" 7
head -c 300000 /dev/urandom >"$tmp/random"
check "cp copies a file into a VM of $commit" mvm cp "$tmp/random" running:/tmp/random
check "cp copies a file out of a VM of $commit" mvm cp running:/tmp/random "$tmp/again"
check "cp damages nothing in a VM of $commit" cmp "$tmp/random" "$tmp/again"
has "logs shows the console of a VM of $commit" "$(mvm logs running)" '^test guest: hello after [0-9]+ ms'
is "inspect knows a VM of $commit" "$(mvm inspect running --json | jq -r '.name + " " + .state')" 'running ready'
is "a paused VM of $commit is listed as paused" "$(field paused state)" paused
check "resume lets a paused VM of $commit go on" mvm resume paused
is "a resumed VM of $commit answers" "$(mvm exec paused -- echo here)" here
# Its network is the VMM's own, which is in its state.
run mvm snapshot create running later
has "a VM of $commit is not saved, with the reason" "$status $err" '^1[0-9] .*started before VMs had a network process'
run mvm fork running copy
has "a VM of $commit is not forked, with the reason" "$status $err" '^1[0-9] .*started before VMs had a network process'
has "how a VM of $commit ended is told" "$(field ended ended)" 'the guest powered off'

# ---- Snapshots ----

is "the snapshots of $commit are listed" "$(mvm snapshot ls --json | jq -r '[.snapshots[].tag] | sort | join(" ")')" clean
run mvm up --from running:clean --name again --json
has "a snapshot of $commit is refused with the reason" "$status $out" '^1[0-9] .*from before VMs had a network process'
run mvm up "$image" --name fresh --json
is "an image boots that $commit has a boot snapshot of" "$status" 0
mode=$(json .mode)
case $mode in
warm) pass "the boot snapshot of $commit is restored" ;;
*) has "the boot snapshot of $commit is left with the reason" "$(json .cold_reason)" '..' ;;
esac

# ---- Ends ----

run mvm down running warm paused
is "down stops the VMs of $commit" "$status $(for vm in running warm paused; do field "$vm" supervisor_pid; done | sort -u)" '0 '
check "no process of $commit is left" sh -c "! pgrep -f '^$earlier/build/mvmctl'"
run mvm down --all
is 'down --all stops the others' "$status" 0
run mvm snapshot rm running:clean
is "a snapshot of $commit is removed" "$status" 0
finish
