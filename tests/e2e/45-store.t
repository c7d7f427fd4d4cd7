#!/bin/sh
# The builder's store: checked after an unclean end, made anew where it is beyond repair, and never larger than its cap.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/store.sh"
# shellcheck disable=SC2154 # what the three define

attr=guest
fill first 10
is 'a first build makes the disk' "$status" 0
is 'as large as its cap' "$(stat -c %s "$disk")" 230686720
is 'for its owner alone' "$(stat -c %a "$disk" "$state" | sort -u)" 600
is 'it is closed in order' "$(jq -r .state "$state")" clean
check 'and sound' sound

# More than its cap, in builds that each need half of it (bench/bench store: ten times).
failed=0 largest=0
for round in 1 2; do
    fill "$round" 100
    [ "$status" = 0 ] || failed=$((failed + 1))
    [ "$(allocated)" -le "$largest" ] || largest=$(allocated)
done
is 'a store that is filled: all builds succeed' "$failed" 0
check "its file stays within 110% of the cap ($largest bytes)" test "$largest" -le $((230686720 / 10 * 11))
has 'what no image needs was collected' "$err" 'store: [0-9]+ MB freed'
check 'and given back to the host' test "$(allocated)" -le $((230686720 / 4 * 3))
check 'what is reclaimable is known' jq -e '.surveyed_at > 0 and .reclaimable >= 0' "$state"
run mvm dev cache inspect --json
is 'dev cache inspect shows it' "$(json '[.store.state, .store.cap, .store.allocated > 0, .store.reclaimable >= 0] | map(tostring) | join(" ")')" 'clean 230686720 true true'
run mvm dev cache inspect
has 'also in words' "$out" '^store +0\.[0-9] of 0\.2 GB, 0\.[0-9] GB needed by no image'
inode=$(inode)

fill large 170
is 'a build that no collection makes room for: phase nix-build' "$status" 12
has 'says so' "$err" "builder's disk is full"
has 'and what to do' "$err" 'MVM_STORE_CAP'
MVM_STORE_CAP=400M
fill large 170
is 'with a larger cap it succeeds' "$status" 0
is 'on the same disk, grown' "$(inode) $(stat -c %s "$disk")" "$inode 419430400"
check 'which is sound' sound
attr=default
MVM_STORE_CAP=nonsense
fill 7 1
is 'a cap that is no size is refused' "$status" 3
MVM_STORE_CAP=220M
fill 7 1
is 'with a smaller cap the build succeeds' "$status" 0
has 'on a new disk' "$err" 'larger than its cap of 220 MiB and is made anew'
is 'of that size' "$(stat -c %s "$disk")" 230686720

# Damage (tests/nightly/45-store.t has more of it).
# A builder may have two things to get over before it starts.
flaky_vmm "$tmp/flaky"
path=$PATH
PATH=$tmp/flaky:$PATH
damage 'super block, with a VMM that fails' 0 1
PATH=$path
has 'and that is said, too' "$err" 'starting it once more'
database=$(debugfs -R 'blocks /var/nix/db/db.sqlite' "$disk" 2>/dev/null | awk '{print $1}')
damage "Nix's database" "$database" 1
: >"$disk"
fill empty 1
is 'an empty file in place of the disk: the build succeeds' "$status" 0
check 'and the disk is sound' sound
cp "$state" "$tmp/state"
echo '{' >"$state"
fill statefile 1
is 'a damaged state file: the build succeeds' "$status" 0
has 'after a check' "$err" 'checking the builder.s store'
is 'and the file is right again' "$(jq -r .state "$state")" clean
fill clean 1
has_not 'a clean disk is not checked' "$err" 'checking the builder.s store'

# Killed in the middle of a build, and behind one.
kill_while_building qemu
kill_soon_after builder_processes
run mvm dev cache prune --store
is 'the store can be removed' "$status" 0
check 'it is gone' test ! -e "$disk"
finish
