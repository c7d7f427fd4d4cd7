#!/bin/sh
# What can go wrong in a build or a boot: each with its phase, its reason and a way out, and nothing left behind.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"

gone() { ! kill -0 "$1" 2>/dev/null; }
no_vm() { [ -z "$(vm_processes)$(supervisors)" ]; }

# One builder for all until its processes are looked at.
unset MVM_NO_PERSISTENT_BUILDER
flake=$tmp/syntax
mkdir "$flake"
printf '{ outputs = { self }: {\n  x = ;\n}; }\n' >"$flake/flake.nix"
run mvm build --flake "$flake"
is 'a syntax error: phase nix-eval' "$status" 11
has 'with the file and line' "$err" 'flake.nix:2:'

flake=$tmp/attr
mkdir "$flake"
cat >"$flake/flake.nix" <<'N'
{
  inputs.tools.url = "mvm-tools";
  outputs = { self, tools }: let
    sh = name: script: derivation { inherit name; system = "x86_64-linux"; builder = "${tools}/bin/busybox"; args = [ "sh" "-c" script ]; bb = "${tools}/bin/busybox"; };
  in {
    packages.x86_64-linux.breaks = sh "breaks" "echo some last words; exit 9";
    packages.x86_64-linux.empty = sh "empty" "$bb mkdir $out; echo > $out/readme";
  };
}
N
run mvm build --flake "$flake" --profile nope
is 'a missing attribute: phase nix-eval' "$status" 11
has 'named' "$err" "attribute 'packages.x86_64-linux.nope' not found"
has 'with what there is' "$err" 'packages.x86_64-linux has: breaks, empty'
run mvm build --flake "$flake#breaks"
is 'a derivation that fails: phase nix-build' "$status" 12
has 'with its last words' "$err" 'some last words'
run mvm build --flake "$flake" --attr empty --json
is 'an output that is no image: phase artifact-extraction' "$status" 13
has 'says what is missing' "$(json .error)" 'no vmlinux'
has 'and what is there' "$(json .error)" 'readme'
check 'no VMM is left' test -z "$(vm_processes)"
check 'no staging folder is left' test -z "$(find "$MVM_CACHE_DIR/artifacts" -name '.stage*')"
check 'no VM folder is left' test -z "$(vm_folders)"

# A symlink out of the tree is a symlink for Nix too; what it points to does not travel.
flake=$tmp/link
example hello "$flake"
echo secret >"$tmp/secret"
ln -s "$tmp/secret" "$flake/out"
run mvm build --flake "$flake"
is 'a symlink out of the tree stays a symlink' "$status" 0

mvm dev down >/dev/null 2>&1
MVM_NO_PERSISTENT_BUILDER=1
export MVM_NO_PERSISTENT_BUILDER

# A guest that never gets ready.
image=$(mvm build --flake "$flake" --json 2>/dev/null | jq -r .kernel)
mkdir "$tmp/stuck"
cp "$(dirname "$image")"/* "$tmp/stuck/"
chmod u+w "$tmp/stuck"/*
rm "$tmp/stuck/manifest.json" # the command line is not what it lists
echo 'mvm.root=vdz mvm.init=/sbin/mvm-init' >"$tmp/stuck/cmdline.txt"
run mvm up "$tmp/stuck" --name stuck --timeout 4
is 'a guest that does not get ready: phase runtime-backend' "$status" 14
has 'with the kernel command line' "$err" 'kernel command line: mvm.root=vdz'
has 'the backend log' "$err" 'backend log'
has 'and the console' "$err" 'console'
check 'nothing runs on' test -z "$(vm_processes)"
mvm down stuck >/dev/null 2>&1

# Killed at any moment.
run mvm up --flake "$flake" --name victim
supervisor=$(supervisors)
vmm=$(pgrep -P "$supervisor" qemu-system)
kill -9 "$supervisor"
check 'killing the supervisor ends the VMM' eventually 5 gone "$vmm"
run mvm ls --json
is 'ls shows the truth' "$(json '.vms[0].state')" stopped
run mvm up --flake "$flake" --name victim --json
is 'the name can be used again' "$status" 0
supervisor=$(supervisors)
kill -9 "$(pgrep -P "$supervisor" qemu-system)"
check 'killing the VMM ends the supervisor' eventually 5 gone "$supervisor"
run mvm ls --json
has 'and ls says how' "$(json '.vms[0].ended')" 'killed by signal 9'
mvm down victim >/dev/null

# A VMM that fails is not the build's fault: here that of the builder's first supervisor, whatever it is asked for.
flaky_vmm "$tmp/flaky"
run env PATH="$tmp/flaky:$PATH" "$MVMCTL" build --flake "$flake" --force
is 'a builder whose VMM ends is started once more' "$status" 0
has 'which is said, with the reason' "$err" 'ended with status 3 before the guest was ready; starting it once more'

for moment in 0.1 0.5 1.5 3 4.5; do
    sed -i "s/a microVM.*on/a microVM ($moment) on/" "$flake/flake.nix"
    "$MVMCTL" build --flake "$flake" >/dev/null 2>&1 &
    pid=$!
    sleep "$moment"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    check "mvmctl killed after $moment s leaves no VM" eventually 30 no_vm
done
run mvm build --flake "$flake" --json
is 'the next build is right' "$status" 0
"$MVMCTL" build --flake "$flake" --force >/dev/null 2>"$tmp/int.err" &
pid=$!
eventually 60 grep -q '^mvmctl: evaluating' "$tmp/int.err"
kill -INT "$pid"
status=0
wait "$pid" || status=$?
is 'an interrupt ends the build' "$status" 130
check 'and its builder' test -z "$(vm_processes)"

# Two builds of one flake at once, in one builder.
unset MVM_NO_PERSISTENT_BUILDER
flake=$tmp/least
least_flake "$flake"
"$MVMCTL" build --flake "$flake" --json >"$tmp/a.json" 2>/dev/null &
one=$!
"$MVMCTL" build --flake "$flake" --json >"$tmp/b.json" 2>"$tmp/b.err" &
two=$!
wait "$one"
is 'of two builds at once the first succeeds' "$?" 0
wait "$two"
is 'and the second' "$?" 0
is 'with one image' "$(jq -r .image "$tmp/a.json")" "$(jq -r .image "$tmp/b.json")"
finish
