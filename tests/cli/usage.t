#!/bin/sh
# The command line without any VM: help, usage errors, exit statuses, JSON, man page, completion.
. "$(dirname "$0")/../lib/tap.sh"

run "$MVMCTL" version
has 'version' "$out" '^mvmctl [0-9]+\.[0-9]+'
run "$MVMCTL" version --json
is 'version as JSON' "$(printf '%s' "$out" | jq -r .protocol)" 1
for c in build build-log up run exec cp ls logs down pause resume fork "snapshot create" "snapshot ls" "snapshot rm" "bench boot" "bench exec" "bench build" "bench density" doctor version completion help; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" $c --help
    is "$c --help" "$status" 0
    has "$c --help says its usage" "$out" "^Usage: mvmctl $c"
done

run "$MVMCTL" help
is 'no word stands twice in the overview' "$(printf '%s\n' "$out" | sed -n '/^Commands:/,/^$/p' | awk '/^  / { print $1 }' | sort | uniq -d)" ''


# Each command of the manual but those whose words are a program, VMs, or a command, which it looks for.
"$MVMCTL" --man | sed -n 's/^\.Ss mvmctl //p' | grep -vE '^(exec|down|stats|help|dev shell)$' >"$tmp/commands"
check 'the manual has the commands' test "$(wc -l <"$tmp/commands")" -gt 20
while read -r c; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" $c no such words at-all
    is "C3: $c refuses words that mean nothing to it" "$status" 2
done <"$tmp/commands"
for words in 'exec vm -e A=B --env FOO -e C=D true' 'exec vm -e =B true' 'up --from a:b --ready agent' 'up --from a:b --cold' \
    'build --flake .#a --attr b' 'build --flake .#a --profile b' 'run --flake .#a --attr b' 'up --flake .#a --profile b' \
    'exec --flake .#a --attr b true'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" $words
    is "C3: $words is refused" "$status" 2
done

run "$MVMCTL" biuld
is 'an unknown command is a usage error' "$status" 2
has 'with a guess' "$err" 'did you mean mvmctl build'
run "$MVMCTL" build --falke .
has 'an unknown option with a guess' "$err" 'did you mean --flake'
run "$MVMCTL" build --flake
has 'an option without its argument' "$err" 'needs an argument'
run "$MVMCTL" up --flake . extra
is 'too many words' "$status" 2

for m in 0 abc 1T -1 12Q 32M; do
    run "$MVMCTL" up --memory "$m"
    is "memory $m is refused" "$status" 2
done
for c in 0 abc 65 -2; do
    run "$MVMCTL" up --cpus "$c"
    is "cpus $c is refused" "$status" 2
done
for j in 0 abc 65; do
    run "$MVMCTL" build --jobs "$j"
    is "jobs $j is refused" "$status" 2
done
for t in 0 abc -1; do
    run "$MVMCTL" up --timeout "$t"
    is "timeout $t is refused" "$status" 2
done
for o in '--samples 0' '--samples x' '--warmups -1' '--budget 0' '--budget x' '--timeout 0' '--memory 1' '--cpus 0' 'extra' \
    '--compare a' '--compare a b c' '--flake a --config b.toml' '--flake a --compare b c' '--budget 5 --count-instructions' \
    '-- true' '--nonsense'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" bench boot $o
    is "bench boot $o is refused" "$status" 2
done
run "$MVMCTL" bench exec --
is 'bench exec without a program' "$status" 2
for o in '--count 0' '--count x' '--count 1001' 'extra'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" bench density $o
    is "bench density $o is refused" "$status" 2
done
printf 'kernel = "none"\nrootfs = "none"\n' >"$tmp/none.toml"
run "$MVMCTL" bench boot --config "$tmp/none.toml"
is 'a configuration that names what is not there' "$status" 3
has 'says which' "$err" 'none.toml: none: No such file'
printf 'krenel = "none"\n' >"$tmp/typo.toml"
run "$MVMCTL" bench boot --config "$tmp/typo.toml"
has 'a key mistyped has its line' "$err" 'typo.toml: line 1: there is no key .krenel'
has 'and a guess' "$err" 'did you mean kernel'
mkdir "$tmp/unbuilt" && touch "$tmp/unbuilt/flake.nix"
run "$MVMCTL" bench boot --flake "$tmp/unbuilt"
is 'nothing is built for a bench' "$status" 14
has 'which is said' "$err" 'hint: mvmctl build --flake'
check 'and nothing is left of it' test -z "$(ls -A "$MVM_CACHE_DIR/artifacts" 2>/dev/null)"
mkfifo "$tmp/fifo"
echo before >"$tmp/regular"
ln -s regular "$tmp/link"
timeout 20 cat "$tmp/fifo" >"$tmp/heard" &
heard=$!
run "$MVMCTL" exec nosuch --trace "$tmp/link" -- true
check 'R4: a trace goes through a symlink, which stays one' test -L "$tmp/link"
has 'R4: to where it leads' "$(cat "$tmp/regular")" '"name":"exec"'
run timeout 20 "$MVMCTL" exec nosuch --trace "$tmp/fifo" -- true
check 'R4: a pipe stays one' test -p "$tmp/fifo"
wait "$heard"
has 'R4: and who reads it has the trace' "$(cat "$tmp/heard")" '"name":"exec"'
run timeout 20 "$MVMCTL" exec nosuch --trace "$tmp/fifo" -- true
has 'R4: one that nobody reads is said, and not waited for' "$err" 'cannot write .*fifo'
run "$MVMCTL" exec nosuch --trace /dev/stdout -- true
has 'R4: /dev/stdout is written to' "$out" '"name":"exec"'
run "$MVMCTL" up --trace
has 'a trace without a file' "$err" 'needs an argument'
long=$(printf '%0300d' 0)
for n in '' a/b ../x .hidden "$long" 'a b'; do
    run "$MVMCTL" up --name "$n"
    is "the name '$(printf %.20s "$n")' is refused" "$status" 2
done
run "$MVMCTL" up --hypervisor libkrun
is 'a backend that is not there is refused' "$status" 14
has 'with the reason' "$err" "hypervisor 'libkrun': "
run "$MVMCTL" exec nosuch -- true
is 'exec in a VM that is not there' "$status" 125
run "$MVMCTL" exec nosuch
is 'exec without a program' "$status" 2
for o in '--memory 1G' '--cpus 2' '--timeout 5' '--cold' '--profile x' '--attr x' '--hypervisor qemu'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" exec nosuch $o -- true
    is "C3: exec NAME $o is refused" "$status" 2
    has "C3: exec NAME $o says that it has no effect" "$err" "exec: ${o%% *} has no effect without --flake"
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" exec $o nosuch true
    is "C3: exec $o NAME is refused" "$status" 2
done
for words in 'nosuch ls -la' '-it nosuch sh' '-i nosuch cat' '-t nosuch -u root sh -c x' '--env A=B nosuch -e C=D ls --json --help' \
    'nosuch ls -- -la' 'nosuch -- ls --flake x' '-it nosuch -- sh'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" exec $words
    is "C3: mvmctl exec $words needs no --" "$status" 125
    has "C3: mvmctl exec $words names the VM" "$err" "there is no vm 'nosuch'"
done
for words in 'nosuch' 'nosuch -it' 'nosuch --' '--' 'nosuch --flake . ls' '--nonsense nosuch ls' 'nosuch --nonsense ls'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" exec $words
    is "C3: mvmctl exec $words is a usage error" "$status" 2
done
run "$MVMCTL" exec --flake "$tmp/unbuilt" ls -la
has 'C3: exec --flake REF needs no -- either' "$err" 'hint: mvmctl build --flake'
for words in 'dev up --flake .' 'up image --profile x' 'up image --attr x' 'build --profile x --attr y' 'bench boot --config x.toml --profile y'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" $words
    is "C3: mvmctl $words: an option without effect is refused" "$status" 2
done
run "$MVMCTL" cp a b
is 'cp without a VM' "$status" 2
run "$MVMCTL" cp web:relative .
is 'cp of a relative path in the guest' "$status" 2
run "$MVMCTL" cp nosuch:/x .
is 'cp from a VM that is not there' "$status" 14
run "$MVMCTL" logs nosuch
has 'logs of a VM that is not there' "$err" "there is no vm 'nosuch'"
run "$MVMCTL" down
is 'down without a name' "$status" 2
for words in 'pause' 'pause a b' 'resume' 'fork a' 'fork a builder-7' 'fork a ../x' 'snapshot create' 'snapshot create a b c' \
    'snapshot create a ../x' 'snapshot create a:b c' 'snapshot ls a b' 'snapshot rm' 'snapshot rm a .b' 'snapshot rm a b --all' \
    'up --from a --flake .' 'up --from a image' 'up --from a --memory 1G' 'up --from a --cold' 'up --from a:' 'up --from ../a' \
    'up --from a --name x/y'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" $words
    is "mvmctl $words is a usage error" "$status" 2
    has 'with a way out' "$err" '^mvmctl: hint: '
done
for words in 'pause nosuch' 'resume nosuch' 'fork nosuch new' 'snapshot create nosuch' 'snapshot rm nosuch' 'snapshot rm nosuch a' \
    'up --from nosuch' 'up --from nosuch:tag'; do
    # shellcheck disable=SC2086 # words
    run "$MVMCTL" $words
    is "mvmctl $words: there is none" "$status" 14
    has 'with a way out' "$err" '^mvmctl: hint: '
done
run "$MVMCTL" snapshot ls --json
is 'no snapshots' "$out" '{"snapshots":[]}'
run "$MVMCTL" ls --json
is 'ls of nothing' "$out" '{"vms":[]}'

mkdir "$tmp/empty"
run "$MVMCTL" build --flake "$tmp/empty" --json
is 'no flake.nix: phase nix-eval' "$status" 11
is 'in JSON too' "$(printf '%s' "$out" | jq -r '.phase + " " + (.exit_status|tostring)')" 'nix-eval 11'
is 'with a way out' "$(printf '%s' "$out" | jq -r '.hint != null')" true
is 'standard error is JSON too, one object a line' "$(printf '%s\n' "$err" | jq -r .event | sort | uniq -c | tr -s ' \n' ' ')" ' 1 error 1 phase '
run "$MVMCTL" build --flake "$tmp/empty"
has 'without it, a hint' "$err" '^mvmctl: hint: '
run "$MVMCTL" build --flake "$tmp/nowhere"
is 'no such folder' "$status" 11
mkdir "$tmp/socket" && touch "$tmp/socket/flake.nix" && mkfifo "$tmp/socket/pipe"
run "$MVMCTL" build --flake "$tmp/socket"
has 'a fifo in the tree is named' "$err" 'pipe in the flake.s tree is a fifo'
git -C "$tmp/empty" init -q && touch "$tmp/empty/flake.nix"
run "$MVMCTL" build --flake "$tmp/empty"
has 'a flake that git does not track' "$err" 'not tracked by git'

run "$MVMCTL" build-log
is 'no build, no log' "$status" 1
has 'which is said' "$err" 'no log of a build'
run "$MVMCTL" build-log --list --json
is 'an empty list' "$out" '{"builds":[]}'
run "$MVMCTL" build-log --json
is 'JSON is for the list' "$status" 2
mkdir -p "$MVM_CACHE_DIR/logs"
store=/nix/store/0123456789abcdef0123456789abcdef
printf 'building web: %s-web.drv\nweb> one\nother> two\nweb> three\n' "$store" >"$MVM_CACHE_DIR/logs/20260101T000000.000000-01234567.log"
printf 'nothing was built\n' >"$MVM_CACHE_DIR/logs/20260101T000001.000000-01234567.log"
printf '{"flake":"/f","attr":"packages.x.web","status":"error","error":"it broke","started_at":1000000000}\n' \
    >"$MVM_CACHE_DIR/logs/20260101T000001.000000-01234567.json"
run "$MVMCTL" build-log
is 'the last log' "$out" 'nothing was built'
run "$MVMCTL" build-log web
is "a derivation's lines, from the newest build that has it" "$out" 'one
three'
run "$MVMCTL" build-log "$store-web.drv"
is 'by its store path' "$out" 'one
three'
run "$MVMCTL" build-log nosuch
is 'one that was not built' "$status" 1
run "$MVMCTL" build-log --list
has 'the list says what went wrong' "$out" 'error +packages.x.web +/f: it broke'
run "$MVMCTL" build-log --list --json
is 'in JSON' "$(printf '%s' "$out" | jq -r '.builds[0].status + " " + .builds[1].status')" 'error unfinished'

# What a terminal would obey: escapes, U+009B as UTF-8, an override of direction, a byte that is no UTF-8.
evil=$(printf 'x\033]0;t\007y\302\2332Jz\342\200\256w\377')
printf '{"flake":"/f","attr":"packages.x.web","status":"error","error":"%s","started_at":1000000000}\n' \
    "$(printf %s "$evil" | sed 's/\x1b/\\u001b/g;s/\x07/\\u0007/g')" >"$MVM_CACHE_DIR/logs/20260101T000001.000000-01234567.json"
printf 'line %s\r\n\ttab\n' "$evil" >"$MVM_CACHE_DIR/logs/20260101T000001.000000-01234567.log"
shown='x?]0;t?y?2Jz?w?'
run "$MVMCTL" build-log
is "T11: a log's text is printed without what a terminal obeys" "$out" "line $shown
	tab"
run "$MVMCTL" build-log --list
has 'T11: so is the reason of a failure' "$out" "/f: x\?\]0;t\?y\?2Jz\?w\?$"
run "$MVMCTL" build-log --list --json
has 'T11: in JSON it is escaped' "$out" '"error":"x\\u001b\]0;t\\u0007y\\u009b2Jz\\u202ew\\ufffd"'
run "$MVMCTL" "$evil"
has 'T11: so is what an error quotes' "$err" "no command 'x\?\]0;t\?y\?2Jz\?w\?'"
run "$MVMCTL" ls --json "$evil"
has 'T11: in JSON too' "$err" '"event":"error"'
mkdir -p "$tmp/evil/$evil" && touch "$tmp/evil/$evil/flake.nix" && mkfifo "$tmp/evil/$evil/$evil"
run "$MVMCTL" build --flake "$tmp/evil/$evil"
is 'T11: and the name of a file' "$(printf '%s' "$err" | LC_ALL=C tr -d '\n\t -~')" ''

run env HOME="$tmp" MVM_HOME=/proc/nope "$MVMCTL" ls
is 'a home that cannot be made' "$status" 3
run env PATH=/nowhere "$MVMCTL" doctor --json
is 'doctor misses what is missing' "$status" 1
has 'and names it' "$out" '"name":"qemu","state":"fail"'
has 'doctor finds what carries what guests send' "$out" '"name":"network","state":"ok"'
mkdir "$tmp/lib" && : >"$tmp/lib/libslirp.so.0"
run env LD_LIBRARY_PATH="$tmp/lib" "$MVMCTL" doctor --json
has 'and says where a guest would have no network' "$(printf '%s\n' "$out" | jq -c '.checks[] | select(.name == "network")')" \
    '"state":"fail","detail":"cannot load libslirp.so.0","hint":"install the package libslirp0"'

# unwritten WORDS...: says so where standard output is full, and where it is closed.
unwritten() {
    "$MVMCTL" "$@" >/dev/full 2>"$tmp/err"
    is "R12: mvmctl $* to a full device has status 1" $? 1
    has "R12: mvmctl $* to a full device says so" "$(cat "$tmp/err")" 'cannot write standard output: No space left on device'
    "$MVMCTL" "$@" >&- 2>"$tmp/err"
    is "R12: mvmctl $* to a closed descriptor has status 1" $? 1
    has "R12: mvmctl $* to a closed descriptor says so" "$(cat "$tmp/err")" 'cannot write standard output: Bad file descriptor'
}
for words in version 'ls --json' help 'build --help' --man 'completion bash' 'completion zsh' 'snapshot ls --json' \
    'build-log --list' 'build-log' 'dev cache inspect --json'; do
    # shellcheck disable=SC2086 # words
    unwritten $words
done
is 'R12: with --json the error is an event' "$("$MVMCTL" ls --json 2>&1 >/dev/full | jq -r .event)" error
"$MVMCTL" build --flake "$tmp/nowhere" --json >/dev/full 2>"$tmp/err"
is 'R12: a failure keeps its status where it cannot be printed' $? 11
is 'R12: and both errors are said' "$(jq -r 'select(.event == "error") | .error' "$tmp/err" | wc -l)" 2
mkfifo "$tmp/fifo"
exec 7<>"$tmp/fifo" 8>"$tmp/fifo" 7<&-
"$MVMCTL" ls --json >&8 2>"$tmp/err"
is 'R12: where the reader has gone away mvmctl ends as SIGPIPE would end it' "$? $(cat "$tmp/err")" '141 '
exec 8>&-

"$MVMCTL" --man >"$tmp/mvmctl.1"
is 'the man page is clean' "$(mandoc -Tlint "$tmp/mvmctl.1" 2>&1)" ''
"$MVMCTL" completion bash >"$tmp/c.bash"
check 'the bash completion parses' bash -n "$tmp/c.bash"
run "$MVMCTL" completion zsh
has 'zsh completion' "$out" '^#compdef mvmctl'
run "$MVMCTL" completion fish
has 'fish completion' "$out" '^complete -c mvmctl'
run "$MVMCTL" completion tcsh
is 'an unknown shell' "$status" 2
# What was found out about this machine decides what a guest's kernel is told: it is taken as it was written, or not at all.
"$MVMCTL" doctor >/dev/null 2>&1
sed -i 's/\("tsc_khz": *\)[0-9]*/\112445424/' "$MVM_HOME/run/accel.json"
"$MVMCTL" doctor >/dev/null 2>&1
is_not_it() { [ "$(jq .tsc_khz "$MVM_HOME/run/accel.json")" != 12445424 ]; }
check 'T9: a clock rate that somebody changed is measured anew' is_not_it
finish
