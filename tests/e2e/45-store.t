#!/bin/sh
# The builder's store: checked after an unclean end, made anew where it is beyond repair, and never larger than its cap.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck disable=SC2154 # tmp is of tap.sh

# A store of its own; the builder image is that of all tests.
example hello "$tmp/hello"
mvm build --flake "$tmp/hello" >/dev/null 2>&1
ours "$tmp/own"
mkdir "$tmp/own/builder-vm"
cp -a "$MVM_CACHE_DIR/builder-vm/$(uname -m)" "$tmp/own/builder-vm/"
MVM_CACHE_DIR=$tmp/own
MVM_STORE_CAP=220M
export MVM_CACHE_DIR MVM_STORE_CAP
disk=$MVM_CACHE_DIR/builder-vm/nix-store-$(uname -m).img
state=${disk%.img}.state

# Each build writes so many megabytes (zeros take room as well: nothing here makes holes of them) and leaves them behind as
# garbage; its image is small.
flake=$tmp/fill
mkdir "$flake"
echo 1 >"$flake/numbers"
cat >"$flake/flake.nix" <<'N'
{
  inputs.mvm.url = "mvm";
  inputs.tools.url = "mvm-tools";
  outputs = { self, mvm, tools }: let
    round = builtins.readFile ./round;
    bb = "${tools}/bin/busybox";
    numbers = derivation {
      name = "numbers"; system = "x86_64-linux"; builder = bb; inherit bb; of = builtins.readFile ./numbers;
      args = [ "sh" "-c" "$bb seq 200000 >$out" ];
    };
    data = derivation {
      name = "data"; system = "x86_64-linux"; builder = bb; inherit bb numbers round;
      args = [ "sh" "-c" "[ $($bb wc -c <$numbers) = 1288895 ] || exit; $bb mkdir $out; echo $round >$out/round; for i in $($bb seq ${builtins.readFile ./megabytes}); do $bb head -c 1000000 /dev/zero >$out/$i || exit; done; $bb sleep ${builtins.readFile ./seconds}" ];
    };
  in {
    packages.x86_64-linux.default = mvm.lib.x86_64-linux.mkGuest { name = "fill"; command = "true"; files."/round".source = "${data}/round"; };
  };
}
N
# fill ROUND MEGABYTES [SECONDS]: a failure's last words are shown, expected or not.
fill() {
    printf %s "$1" >"$flake/round"
    printf %s "$2" >"$flake/megabytes"
    printf %s "${3:-0}" >"$flake/seconds"
    run mvm build --flake "$flake" --offline --verbose
    [ "$status" = 0 ] || printf '%s\n' "$err" | tail -n 8 | say
}
allocated() { echo $(($(stat -c %b "$disk") * 512)); }
inode() { stat -c %i "$disk"; }
sound() { e2fsck -fn "$disk"; }
rebuilt='damaged beyond repair and is made anew; built images are not affected'

fill first 10
is 'a first build makes the disk' "$status" 0
is 'as large as its cap' "$(stat -c %s "$disk")" 230686720
is 'for its owner alone' "$(stat -c %a "$disk" "$state" | sort -u)" 600
is 'it is closed in order' "$(jq -r .state "$state")" clean
check 'and sound' sound

# Twice its cap, in builds that each need half of it (bench/bench store: ten times).
failed=0 largest=0
for round in 1 2 3 4; do
    fill "$round" 100
    [ "$status" = 0 ] || failed=$((failed + 1))
    [ "$(allocated)" -le "$largest" ] || largest=$(allocated)
done
is 'a store filled twice over: all builds succeed' "$failed" 0
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
MVM_STORE_CAP=nonsense
fill 7 1
is 'a cap that is no size is refused' "$status" 3
MVM_STORE_CAP=220M
fill 7 1
is 'with a smaller cap the build succeeds' "$status" 0
has 'on a new disk' "$err" 'larger than its cap of 220 MiB and is made anew'
is 'of that size' "$(stat -c %s "$disk")" 230686720

# Damage. The copy is of a disk with something in it.
# damage NAME BLOCK COUNT: garbage over blocks of 4 KiB.
damage() {
    head -c $(($3 * 4096)) /dev/urandom | dd of="$disk" bs=4096 seek="$2" conv=notrunc status=none
    fill "$1" 1
    is "garbage over the $1: the build succeeds" "$status" 0
    has "garbage over the $1: it says what happened" "$err" "$rebuilt"
    is "garbage over the $1: it is told once" "$(printf '%s\n' "$err" | grep -c 'made anew')" 1
    check "garbage over the $1: the new disk is sound" sound
}
damage 'super block' 0 1
damage 'group descriptors' 1 1
# A builder may have two things to get over before it starts.
flaky_vmm "$tmp/flaky"
path=$PATH
PATH=$tmp/flaky:$PATH
damage 'super block, with a VMM that fails' 0 1
PATH=$path
has 'and that is said, too' "$err" 'starting it once more'
table=$(dumpe2fs "$disk" 2>/dev/null | sed -n 's/.*Inode table at \([0-9]*\)-.*/\1/p' | head -1)
damage 'inode tables' "$table" 8
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

# Killed in the middle of a build.
# victim_of KIND: the pid to kill.
victim_of() {
    case $1 in
    qemu) vm_processes | head -1 ;;
    supervisor) supervisors | head -1 ;;
    mvmctl) echo "$building" ;;
    esac
}
sleeping() { grep -q 'building data' "$tmp/kill.err"; }
gone() { [ -z "$(vm_processes)$(supervisors)" ]; }
for kind in qemu supervisor mvmctl; do
    printf %s "killed-$kind" >"$flake/round"
    printf 30 >"$flake/megabytes"
    printf 60 >"$flake/seconds"
    "$MVMCTL" build --flake "$flake" --offline --verbose >/dev/null 2>"$tmp/kill.err" &
    building=$!
    check "$kind: a build runs" eventually 60 sleeping
    victim=$(victim_of "$kind")
    check "$kind is killed" kill -9 "$victim"
    wait "$building" 2>/dev/null
    fill "after-$kind" 1
    is "$kind killed while it builds: the next build succeeds" "$status" 0
    has_not "$kind killed: the store is not lost" "$err" 'made anew'
    check "$kind killed: the disk is sound" sound
    check "$kind killed: nothing is left" eventually 30 gone
done
# What a build leaves is whole, however soon after it the builder is killed.
none_left() { [ -z "$(builder_processes)$(supervisors)" ]; }
for kind in builder_processes supervisors; do
    echo "$kind" >"$flake/numbers"
    (
        unset MVM_NO_PERSISTENT_BUILDER
        fill "soon-$kind" 1
    )
    check "of the $kind that a build leaves one is killed" kill -9 "$($kind | head -1)"
    check "$kind: nothing is left" eventually 30 none_left
    fill "later-$kind" 1
    is "$kind: the next build finds whole what that one built" "$status" 0
done
run mvm dev cache prune --store
is 'the store can be removed' "$status" 0
check 'it is gone' test ! -e "$disk"
finish
