#!/bin/sh
# Build jobs: what each failure says, what is kept of it, and several jobs in one builder: bounds, queue, cancelling.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"

unset MVM_NO_PERSISTENT_BUILDER # all jobs of this file share one builder
flake=$tmp/flake
mkdir "$flake"
# Derivations that no test before has built: the salt is a part of each.
sed "s|SALT|$tmp|" >"$flake/flake.nix" <<'N'
{
  inputs.tools.url = "mvm-tools";
  outputs = { self, tools }: let
    bb = "${tools}/bin/busybox";
    wrong = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    sh = name: script: derivation { inherit name bb; system = "x86_64-linux"; builder = bb; args = [ "sh" "-c" "# SALT\n${script}" ]; };
    fixed = { outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = wrong; };
    dep = sh "needed" "for i in 1 2 3; do echo line $i; done; echo last words; exit 7";
    sleeps = name: seconds: sh name "echo started; $bb sleep ${seconds}; $bb mkdir $out; echo > $out/readme";
  in {
    packages.x86_64-linux = {
      breaks = sh "breaks" "echo ${dep}";
      hash = derivation ({ name = "pinned"; inherit bb; system = "x86_64-linux"; builder = bb; args = [ "sh" "-c" "echo hi > $out" ]; } // fixed);
      fetch = derivation ({ name = "fetched"; system = "builtin"; builder = "builtin:fetchurl"; url = "http://127.0.0.1:1/x.tar"; } // fixed);
      eval-fetch = sh "x" "echo ${builtins.fetchurl { url = "http://127.0.0.1:1/y.tar"; sha256 = wrong; }}";
      eval-hash = sh "x" "echo ${builtins.fetchTree { type = "path"; path = "${tools}"; narHash = wrong; }}";
      throws = throw "thrown on purpose";
      early = sh "x" (builtins.readFile (sh "no-script" "echo '\"text\":\"querying info about missing paths\"'; exit 9"));
      late = sh "late" (builtins.readFile (sh "script" "echo 'echo that was it; exit 8' > $out"));
      empty = sh "empty" "$bb mkdir $out; echo > $out/readme";
      memory = sh "memory" "$bb dd if=/dev/zero of=/dev/null bs=1900M count=1";
      bomb = sh "bomb" "f() { f | f & }; f; $bb sleep 1000";
      short = sleeps "short" "5";
      other = sleeps "other" "5";
      long = sleeps "long" "1000";
      beside = sleeps "beside" "45";
      next = sleeps "next" "1";
    };
  };
}
N

# ---- The guide's table of symptoms, and the kinds within a phase ----

# fails NAME ATTR STATUS PHASE KIND: the build does, in JSON; what it said is in $out and $err.
fails() {
    run mvm build --flake "$flake" --attr "$2" --offline --json
    is "$1: exit status" "$status" "$3"
    is "$1: phase and kind" "$(json '.phase + " " + .kind')" "$4 $5"
}
fails 'an attribute that is not there' nope 11 nix-eval attribute
has 'the error names those that are' "$(json .hint)" 'packages.x86_64-linux has: .*breaks'
fails 'an error of the expression' throws 11 nix-eval eval
has 'its reason is in the message' "$(json .error)" 'thrown on purpose'
fails 'a fetch in evaluation that fails' eval-fetch 11 nix-eval fetch
has 'names the URL' "$(json .error)" 'http://127.0.0.1:1/y.tar cannot be fetched'
fails 'an input whose hash does not fit' eval-hash 11 nix-eval hash-mismatch
has 'says what it got' "$(json .hint)" 'narHash to sha256-'
fails 'a builder that fails in the middle of evaluation' early 11 nix-eval builder
is 'names it' "$(json .error)" 'the builder of no-script failed with exit code 9'
fails 'one that fails after such a builder' late 12 nix-build builder
is 'names itself' "$(json .error)" 'the builder of late failed with exit code 8'
fails 'a fetch in a build that fails' fetch 12 nix-build fetch
has 'names URL and derivation' "$(json .error)" 'http://127.0.0.1:1/x.tar cannot be fetched for fetched'
has 'explains --offline' "$(json .hint)" 'offline'
fails 'a fixed output of another hash' hash 12 nix-build hash-mismatch
has 'names it with both hashes' "$(json .error)" 'mismatch in pinned: specified sha256-A+=, got sha256-m'
has 'says what to write' "$(json .hint)" 'set the hash of pinned in the flake to sha256-m'
has 'and names the derivation' "$(json .derivation)" '^/nix/store/.*-pinned.drv$'
fails 'an output that is no image' empty 13 artifact-extraction artifacts
fails 'a builder that fails, below what was asked for' breaks 12 nix-build builder
is 'names the one to blame' "$(json .error)" 'the builder of needed failed with exit code 7'
has 'with its last words' "$(json .detail)" 'needed> last words'
check 'standard error is JSON, line by line' jq -e . "$tmp/run.err"
has 'phases are told' "$(jq -r 'select(.event == "phase") | .phase' "$tmp/run.err" | tr '\n' ' ')" 'stage eval build $'
has 'so is what is built' "$(jq -r 'select(.current == "needed") | .event' "$tmp/run.err")" progress
is 'the last count' "$(jq -r 'select(.to_build) | .to_build' "$tmp/run.err" | sort -n | tail -1)" 2

run mvm build-log
has 'the log of the last build is kept' "$out" 'needed> line 2'
run mvm build-log needed
is "the failing derivation's own log" "$out" 'line 1
line 2
line 3
last words'
run mvm build-log --flake "$flake#hash"
has "a flake's last build" "$out" 'building pinned: /nix/store/'
run mvm build-log --list --json
is 'the list knows how it ended' "$(json '.builds[0] | .status + " " + .kind + " " + .attr')" \
    'error builder packages.x86_64-linux.breaks'

# ---- Several jobs in one builder ----

vm=$(mvm ls --all --json | jq -r '.vms[] | select(.role == "builder") | .name')
guest() { mvm exec "$vm" -- /bin/sh -c "$1"; }
# submit ATTR [LIMIT]: in the background; its pid in $job, what it says in $tmp/ATTR.err.
submit() {
    "$MVMCTL" build --flake "$flake" --attr "$1" --jobs "${2:-8}" --offline --verbose >"$tmp/$1.out" 2>"$tmp/$1.err" &
    job=$!
}
said() { grep -q "$2" "$tmp/$1.err"; }
# What jobs leave in the guest: nothing once they have ended.
left() { guest 'ls /nix/mvm-work; ls -d /sys/fs/cgroup/mvm-builds/*/ 2>/dev/null; ps | grep "[s]leep 1000"; echo end'; }
nothing_left() { [ "$(left)" = end ]; }
ended() { guest 'ps | grep -q "[s]leep 1000" && exit 1; exit 0'; }
milliseconds() { date +%s%3N; }

submit beside
beside=$job
check 'a build runs' eventually 60 said beside 'beside> started'
submit memory
wait "$job"
has 'one that takes all memory ends' "$(cat "$tmp/memory.err")" '^mvmctl: \[nix-build\] the build used more than [0-9]+ MiB of memory$'
submit bomb
wait "$job"
has 'one that starts processes without end, too' "$(cat "$tmp/bomb.err")" \
    '^mvmctl: \[nix-build\] the build ran more than 2048 processes at once$'
wait "$beside"
has 'the build beside them goes on to its end' "$(cat "$tmp/beside.err")" 'no vmlinux \(it has: readme\)'
check 'nothing of them is left in the guest' eventually 10 nothing_left

submit long 1
long=$job
check 'a build that takes long' eventually 60 said long 'long> started'
submit next 1
next=$job
check 'the next one waits' eventually 20 said next 'queue: waiting for 1 build before this one'
submit other 1
other=$job
check 'the third behind it' eventually 20 said other 'queue: waiting for 2 builds before this one'
is 'those that wait have no process and no folder' "$(guest 'ls /nix/mvm-work' | wc -l)" 1
kill -INT "$next"
wait "$next"
check 'when one that waits gives up, the next moves up' eventually 10 said other 'waiting for 1 build before this one'
start=$(milliseconds)
kill -9 "$long"
wait "$long" 2>/dev/null
check 'a build whose mvmctl is killed ends in the guest' eventually 10 ended
echo "# after $(($(milliseconds) - start)) ms" # two seconds are promised; a busy machine does not decide a test
wait "$other"
has 'then the one that waited is built' "$(cat "$tmp/other.err")" 'no vmlinux'
check 'and nothing is left' eventually 10 nothing_left

for signal in INT HUP; do
    submit long
    check "a build to end with SIG$signal" eventually 60 said long 'long> started'
    start=$(milliseconds)
    kill "-$signal" "$job"
    wait "$job"
    check 'nothing of it is left in the guest' eventually 10 nothing_left
    echo "# after $(($(milliseconds) - start)) ms"
done
submit long
sleep 0.3
kill -9 "$job"
wait "$job" 2>/dev/null
check 'one that is killed as it begins leaves nothing either' eventually 10 nothing_left

# ---- Two builds at once ----

"$MVMCTL" build --flake "$flake" --attr short --offline --json >"$tmp/a.json" 2>/dev/null &
one=$!
"$MVMCTL" build --flake "$flake" --attr breaks --offline --json >"$tmp/b.json" 2>/dev/null &
two=$!
wait "$one"
is 'of two builds at once one comes to its end' "$?" 13
wait "$two"
is 'and the other' "$(jq -r .kind "$tmp/b.json")" builder
finish
