#!/bin/sh
# The persistent builder: builds share it, nobody has to manage it, and whatever ends it, the next build is right.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
. "$(dirname "$0")/../lib/standing.sh"
cleanup() {
    go_on
    mvm dev down >/dev/null 2>&1 || :
}
unset MVM_NO_PERSISTENT_BUILDER
state() { mvm persistent-builder status --json | jq -r .state; }
pid() { mvm persistent-builder status --json | jq -r .supervisor_pid; }
record=$MVM_HOME/run/persistent-builder.json
# What is built is the least that can be, but where somebody looks at it.
hello=$tmp/hello
example hello "$hello"
flake=$tmp/least
no_builder() { [ -z "$(builder_processes)" ]; }
n=0
change() { n=$((n + 1)) && least_flake "$flake" "# $n"; }

is 'at first there is none' "$(state)" absent
run mvm build --flake "$hello" --json
is 'a build starts it' "$(json '.builder.mode')/$status" persistent/0
is 'it stays' "$(state)" ready
is 'its record is private' "$(stat -c %a "$record")" 600
first=$(pid)
change
run mvm build --flake "$flake" --json
is 'the next build uses it' "$(json '.builder.mode')/$(pid)" "persistent/$first"
has_not 'and boots nothing' "$(json '.timings | keys | join(" ")')" 'builder-stop'
run mvm ls --json
is 'it is no VM of the user' "$(json '.vms | length')" 0
run mvm up --flake "$hello" --name builder
is 'its name is taken' "$status" 2
run mvm down --all
is 'and down --all leaves it' "$(pid)" "$first"

# Idle, it stands still; a look at its state does not wake it.
stands_still() { [ "$(tail -n 1 "$MVM_HOME/vms/builder/agent.log")" = 'mvm: nobody uses the guest: it stands still' ]; }
ticks() { awk '{ print $14 + $15 }' "/proc/$(builder_processes)/stat"; }
check 'idle, it stands still' eventually 30 stands_still
before=$(ticks)
sleep 3
"$MVMCTL" persistent-builder status >/dev/null
sleep 3
used=$(($(ticks) - before))
check "and its VMM takes next to no processor time ($used ticks in six seconds)" test "$used" -le 5
now=$(mvm exec builder -- date +%s)
check 'then serves, and knows the time' test $(($(date +%s) - now)) -le 3
run mvm exec builder -- sh -c 'setsid sleep 8 >/dev/null 2>&1 </dev/null &'
sleep 5
check 'one in which something runs goes on' eval '! stands_still'
check 'to its end' eventually 30 stands_still

# Under emulation, programs that are always at the same address are translated once.
placed() { mvm exec "$@" -- cat /proc/sys/kernel/randomize_va_space; }
case $(mvm doctor --json | jq -r '.checks[] | select(.name == "acceleration").detail') in tcg*) fixed=0 ;; *) fixed=2 ;; esac
is 'so an emulated builder does not move them; VMs of images do' "$(placed builder) $(placed --flake "$hello")" "$fixed 2"

# Files that the builder has seen do not travel again.
mkdir "$hello/data"
for i in 1 2 3 4 5 6 7 8 9; do echo "file $i" >"$hello/data/$i"; done
run mvm build --flake "$hello" --json
has 'new files travel' "$err" ' (9|10|11) new to the builder'
echo changed >"$hello/data/5"
run mvm build --flake "$hello" --json
has 'of many, the one that changed' "$err" ' [12] new to the builder'
is 'the build is right' "$status" 0
sed -i 's|files."/usr/bin/hello"|files."/five".source = ./data/5; &|' "$hello/flake.nix"
run mvm build --flake "$hello" --json
is 'with its content' "$(mvm exec --flake "$hello" -- cat /five)" changed

# Without it: a builder and a store of its own while the persistent one runs.
change
run mvm build --flake "$flake" --no-persistent-builder --json
is '--no-persistent-builder chooses one of its own' "$(json '.builder.mode')/$status" single-shot/0
is 'which is no fallback' "$(json '.builder.fallback_reason')" null
is 'the persistent one is undisturbed' "$(pid)" "$first"
check 'the copy of the store is gone' test -z "$(find "$MVM_CACHE_DIR/builder-vm" -name '.nix-store*')"
change
run env MVM_NO_PERSISTENT_BUILDER=1 "$MVMCTL" build --flake "$flake" --json
is 'so does MVM_NO_PERSISTENT_BUILDER=1' "$(json '.builder.mode')/$status" single-shot/0

# Several at once, one of them interrupted, one of them killed.
sleepy() { least_flake "$tmp/$1" "\$bb sleep $2 # $1"; }
start=$(date +%s)
for i in 1 2 3 4 5 6 7 8; do
    sleepy "s$i" 5
    "$MVMCTL" build --flake "$tmp/s$i" --json >"$tmp/s$i.out" 2>"$tmp/s$i.err" &
    eval "pid$i=$!"
done
right=0
for i in 1 2 3 4 5 6 7 8; do
    eval "wait \$pid$i" && [ "$(jq -r .builder.mode "$tmp/s$i.out")" = persistent ] && right=$((right + 1))
done
echo "# eight builds that sleep 5 s: $(($(date +%s) - start)) s"
is 'eight builds at once are right, in one builder' "$right/$(pid)" "8/$first"
[ "$right" = 8 ] || tail -n 3 "$tmp"/s?.err | say

for how in INT KILL HUP; do
    sleepy "long$how" 600
    sleepy "beside$how" 4
    "$MVMCTL" build --flake "$tmp/long$how" >/dev/null 2>"$tmp/long.err" &
    long=$!
    check "(a long build runs)" eventually 60 "$MVMCTL" exec builder -- sh -c "busybox ps | busybox grep '[s]leep 600'"
    "$MVMCTL" build --flake "$tmp/beside$how" --json >"$tmp/beside.out" 2>"$tmp/beside.err" &
    beside=$!
    sleep 1
    kill -"$how" "$long"
    wait "$long" 2>/dev/null
    status=0
    wait "$beside" || status=$?
    is "a build beside one that gets SIG$how goes on" "$status" 0
    check 'of the other one nothing is left in the builder' eventually 5 sh -c "[ \"\$('$MVMCTL' exec builder -- sh -c 'busybox ps | busybox grep -c \"[s]leep 600\"; ls /nix/mvm-work | wc -l' | tr '\n' ' ')\" = '0 0 ' ]"
done

# A secret goes with the builder that was given it, and that one with its last client, also when mvmctl is killed.
secret=sekret$(od -An -N6 -tx1 /dev/urandom | tr -d ' ')
search() { "$MVM_SOURCE/tests/lib/search.py" "$secret" "$@" 2>"$tmp/search.err" || tail -n 1 "$tmp/search.err"; }
(umask 077 && printf '[nix]\naccess_tokens = ["example.org=%s"]\n' "$secret" >"$MVM_HOME/config.toml")
sleepy secret 600
"$MVMCTL" build --flake "$tmp/secret" >/dev/null 2>"$tmp/secret.err" &
long=$!
check '(a build with an access token runs)' eventually 60 "$MVMCTL" exec builder -- sh -c "busybox ps | busybox grep '[s]leep 600'"
said=$(mvm exec builder -- sh -c 'cat /proc/[0-9]*/environ 2>/dev/null | tr "\0" "\n" | grep "s[e]kret"; echo; cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\0" "\n" | grep "s[e]kret" && echo SEEN')
has 'an access token reaches Nix by its environment' "$said" "^NIX_CONFIG=access-tokens = example.org=$secret\$"
has_not 'and by no command line' "$said" SEEN
check '(a search of memory finds it there)' test "$(search "$(builder_processes)")" -gt 0
kill -KILL "$long"
wait "$long" 2>/dev/null
check 'T13: a builder that was given a token stops with its last client' eventually 30 no_builder
change
run mvm build --flake "$flake" --json
is 'the next build is right' "$(json '.builder.mode')/$status" persistent/0
run mvm build --flake "$flake" --force --json
is 'and another right behind it, in the next builder' "$(json '.builder.mode')/$status" persistent/0
has_not 'which finds the store closed in order' "$err" 'not closed in order'
rm "$MVM_HOME/config.toml"
check 'T13: that one stops, too' eventually 30 no_builder
# shellcheck disable=SC2046 # numbers
is 'T13: the token is in no process of a builder' "$(search $(builder_processes) $(supervisors))" 0
is 'T13: the token is on no disk of a builder and in no file' "$(search "$MVM_HOME" "$MVM_CACHE_DIR") $(cat "$tmp/search.err")" '0 '

printf '[nix]\naccess_tokens = ["example.org=x"]\n' >"$MVM_HOME/config.toml"
chmod 644 "$MVM_HOME/config.toml"
run mvm build --flake "$flake" --force
is 'tokens that others can read are refused' "$status" 3
rm "$MVM_HOME/config.toml"
run mvm build --flake "$flake" --force
is 'after that a builder stays again, which began warm' "$(state) $(mvm persistent-builder status --json | jq -r .mode)" 'ready warm'
first=$(pid)

# Low-level controls.
mkdir "$tmp/space"
least_flake "$tmp/space/sub"
run mvm persistent-builder start --workspace "$tmp/space"
is 'start says what runs' "$(mvm persistent-builder status --json | jq -r .workspace)/$(pid)" "$tmp/space/$first"
run mvm persistent-builder submit --flake path:/work/sub --attr packages.x86_64-linux.default --json
is 'submit builds a flake of the workspace' "$status" 0
run mvm persistent-builder submit --flake "path:$tmp/hello"
is 'but nothing outside of it' "$status" 2

# The developer's persona.
run mvm dev up
is 'dev up' "$status/$(pid)" "0/$first"
is 'holds it' "$(mvm persistent-builder status --json | jq -r '.held, .idle_stop_ms' | tr '\n' ' ')" 'true 0 '
cd "$hello" || exit 1
run mvm dev shell -- sh -c 'pwd; cat flake.nix | head -n 1; nix --version; nix eval --raw .#packages.x86_64-linux.default.name'
has 'dev shell runs in the flake' "$out" '^/work$'
is 'R10: a command of dev shell gets standard input' "$(printf 'one\ntwo\n' | mvm dev shell -- cat)" 'one
two'
is 'R10: all of it' "$(seq 100000 | mvm dev shell sha256sum)" "$(seq 100000 | sha256sum)"
is 'C3: dev shell needs no --' "$(mvm dev shell printf '%s\n' --json -v)" '--json
-v'
has 'with its files' "$out" '^# The smallest useful guest'
has 'and Nix' "$out" '^nix \(Nix\) 2\.'
has 'which can evaluate it' "$out" 'hello-image'
mkfifo "$tmp/keys"
script -qec "stty rows 33 cols 101; '$MVMCTL' dev shell" /dev/null <"$tmp/keys" >"$tmp/tty.out" 2>&1 &
shell=$!
exec 9>"$tmp/keys"
eventually 60 grep -q 'bash.*#' "$tmp/tty.out"
trap '' PIPE # the shell may be gone when it is written to
printf 'stty size\nsleep 100 &\njobs\n' >&9
eventually 20 grep -q Running "$tmp/tty.out"
printf 'exit 7\n' >&9
exec 9>&-
status=0
wait "$shell" || status=$?
has 'interactive, it has a terminal of our size' "$(tr -d '\r' <"$tmp/tty.out")" '^33 101$'
has 'and job control' "$(tr -d '\r' <"$tmp/tty.out")" 'Running +sleep 100'
is 'and its exit status is ours' "$status" 7
cd / || exit 1
run mvm dev status --json
is 'dev status knows it' "$(json .dev_vm.state)" ready

# Whoever waits for it can be interrupted, whichever of its processes stands. (A supervisor that stands is given up by builds.)
use_ends() {
    change
    ends "build while the builder's $1 stands" TERM 143 build --flake "$flake"
    ends "build while the builder's $1 stands" 'INT INT' 130 build --flake "$flake" --json
    ends "dev shell while the builder's $1 stands" TERM 143 dev shell -- cat
    ends "dev shell while the builder's $1 stands" 'INT INT' 130 dev shell -- cat
    ends "exec in the builder while its $1 stands" HUP 129 exec builder -- cat
}
before=$(pid)
stop "$(builder_processes)"
use_ends VMM
go_on
stop "$before"
use_ends supervisor
go_on
served() { [ "$(mvm exec builder -- echo served)" = served ]; }
check 'it serves when they go on' eventually 60 served

# Whatever ends it.
kill -STOP "$(pid)"
change
run mvm build --flake "$flake" --json
is 'one that does not answer is replaced' "$(json .builder.mode)/$status" persistent/0
check 'by another' test "$(pid)" != "$first"
kill -9 "$(pid)"
check 'killed, it is gone' eventually 5 sh -c "[ \"\$('$MVMCTL' persistent-builder status --json | jq -r .state)\" = absent ]"
check 'and its record with it' test ! -e "$record"
change
run mvm build --flake "$flake" --json
is 'the next build starts one' "$(json .builder.mode)/$status" persistent/0
sleepy lost 3
"$MVMCTL" build --flake "$tmp/lost" --json >"$tmp/lost.out" 2>"$tmp/lost.err" &
lost=$!
check '(a build runs)' eventually 60 "$MVMCTL" exec builder -- sh -c "busybox ps | busybox grep '[s]leep 3'"
# shellcheck disable=SC2046 # numbers
kill -9 $(builder_processes)
status=0
wait "$lost" || status=$?
is 'a build that lost its builder is right' "$(jq -r .builder.mode "$tmp/lost.out")/$status" persistent/0
has 'for it was built once more' "$(cat "$tmp/lost.err")" 'the vm is gone.*; building once more'
sed -i 's/"image": *"[^"]*"/"image": "other"/' "$record"
before=$(pid)
change
run mvm build --flake "$flake" --json
is 'one that runs another image is replaced' "$(json .builder.mode)/$status" persistent/0
check 'when nobody uses it' test "$(pid)" != "$before"
sed -i 's/"image": *"[^"]*"/"image": "other"/' "$record"
"$MVMCTL" exec builder -- sleep 100 &
user=$!
eventually 10 sh -c "[ \"\$('$MVMCTL' persistent-builder status --json | jq -r .clients)\" -ge 1 ]"
change
run mvm build --flake "$flake" --json
is 'while somebody does, the build takes one of its own' "$(json .builder.mode)/$status" single-shot/0
has 'and says why' "$err" 'runs another image'
has 'also in JSON' "$(json .builder.fallback_reason)" 'runs another image'
kill "$user"
wait "$user" 2>/dev/null
run mvm dev down --json
is 'dev down stops it' "$(json .was_up)/$(state)" true/absent
check 'nothing of it runs' test -z "$(builder_processes)"

# Idle.
mkdir -p "$MVM_HOME"
printf '[builder]\nidle_timeout = 2\n' >>"$MVM_HOME/config.toml"
change
run mvm build --flake "$flake" --json
is 'with a short idle time it builds, too' "$(json .builder.mode)/$status" persistent/0
check 'and is gone soon' eventually 20 sh -c "[ \"\$('$MVMCTL' persistent-builder status --json | jq -r .state)\" = absent ]"
check 'with its processes' eventually 10 no_builder
printf '[builder]\nidle_timeout = 2\npersistent = false\n' >"$MVM_HOME/config.toml"
change
run mvm build --flake "$flake" --json
is 'config.toml can turn it off' "$(json .builder.mode)/$status" single-shot/0
run mvm dev down --reset
is 'dev down --reset' "$status" 0
check 'removes the store' test -z "$(find "$MVM_CACHE_DIR/builder-vm" -name 'nix-store*.img')"
finish
