# Sourced behind e2e.sh by the tests of the builder's store: a store with a small cap, and a flake that fills it.
# shellcheck shell=sh disable=SC2034,SC2154 # names shared with the test files

# A store of its own; the builder image is that of all tests.
[ -d "$MVM_CACHE_DIR/builder-vm/$(uname -m)" ] || mvm dev cache repair >/dev/null 2>&1
ours "$tmp/own"
mkdir "$tmp/own/builder-vm"
cp -a "$MVM_CACHE_DIR/builder-vm/$(uname -m)" "$tmp/own/builder-vm/"
MVM_CACHE_DIR=$tmp/own
MVM_STORE_CAP=220M
export MVM_CACHE_DIR MVM_STORE_CAP
disk=$MVM_CACHE_DIR/builder-vm/nix-store-$(uname -m).img
state=${disk%.img}.state

# Each build writes so many megabytes (zeros take room as well: nothing here makes holes of them) and leaves them behind as
# garbage. Its image is the least, or with `attr=guest` a guest, whose kernel takes its room in the store too.
attr=default
flake=$tmp/fill
mkdir "$flake"
echo 1 >"$flake/numbers"
least_image >"$flake/make"
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
    packages.x86_64-linux.default = derivation {
      name = "least"; system = "x86_64-linux"; builder = bb; inherit bb data;
      args = [ "sh" "-c" "$bb mkdir $out; cd $out; $bb cp $data/round cmdline.txt; ${builtins.readFile ./make}" ];
    };
    packages.x86_64-linux.guest = mvm.lib.x86_64-linux.mkGuest { name = "fill"; command = "true"; files."/round".source = "${data}/round"; };
  };
}
N
# fill ROUND MEGABYTES [SECONDS]: a failure's last words are shown, expected or not.
fill() {
    printf %s "$1" >"$flake/round"
    printf %s "$2" >"$flake/megabytes"
    printf %s "${3:-0}" >"$flake/seconds"
    run mvm build --flake "$flake" --attr "$attr" --offline --verbose
    [ "$status" = 0 ] || printf '%s\n' "$err" | tail -n 8 | say
}
allocated() { echo $(($(stat -c %b "$disk") * 512)); }
inode() { stat -c %i "$disk"; }
sound() { e2fsck -fn "$disk"; }
rebuilt='damaged beyond repair and is made anew; built images are not affected'

# damage NAME BLOCK COUNT: garbage over blocks of 4 KiB.
damage() {
    head -c $(($3 * 4096)) /dev/urandom | dd of="$disk" bs=4096 seek="$2" conv=notrunc status=none
    fill "$1" 1
    is "garbage over the $1: the build succeeds" "$status" 0
    has "garbage over the $1: it says what happened" "$err" "$rebuilt"
    is "garbage over the $1: it is told once" "$(printf '%s\n' "$err" | grep -c 'made anew')" 1
    check "garbage over the $1: the new disk is sound" sound
}

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
none_left() { [ -z "$(builder_processes)$(supervisors)" ]; }
# kill_while_building KIND: the next build uses or repairs what is left.
kill_while_building() {
    kind=$1
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
}
# kill_soon_after KIND: what a build leaves is whole, however soon after it the builder is killed.
kill_soon_after() {
    kind=$1
    echo "$kind" >"$flake/numbers"
    (
        unset MVM_NO_PERSISTENT_BUILDER
        fill "soon-$kind" 1
    )
    check "of the $kind that a build leaves one is killed" kill -9 "$($kind | head -1)"
    check "$kind: nothing is left" eventually 30 none_left
    fill "later-$kind" 1
    is "$kind: the next build finds whole what that one built" "$status" 0
}
