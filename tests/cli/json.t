#!/bin/sh
# Every --json of the command table prints one object and nothing else, also where the command fails; and what the command
# line says to people.
. "$(dirname "$0")/../lib/tap.sh"

one_object() { printf '%s\n' "$out" | jq -se 'length == 1 and (.[0] | type == "object")' >/dev/null; }
only_events() { [ -z "$err" ] || printf '%s\n' "$err" | jq -se 'all(.[]; has("event"))' >/dev/null; }
# one COMMAND...: fails or not, says so in one object; its errors are objects, too.
one() {
    run "$@"
    shift
    if one_object && only_events; then
        pass "C2: mvmctl $* prints one object and nothing else"
    else
        fail "C2: mvmctl $* prints one object and nothing else"
        printf '%s\n--\n%s\n' "$out" "$err" | say
    fi
}

mkdir "$tmp/none" && cd "$tmp/none" || exit 1
# Nothing is found here: what would start a VM or fetch an image fails at once.
mkdir "$tmp/bin"
"$MVMCTL" completion bash | sed -n "s/^    '\(.*\)')\$/\1/p" >"$tmp/commands"
check 'C2: the table of commands is read' test "$(wc -l <"$tmp/commands")" -gt 25
while read -r c; do
    for more in '' '--nonsense' 'nosuch' '--help' 'a b c d'; do
        # shellcheck disable=SC2086 # words
        one env PATH="$tmp/bin" "$MVMCTL" $c --json $more </dev/null
    done
done <"$tmp/commands"
for words in 'ls --json --names' 'snapshot ls --json --names' 'run --attach --json' 'up --attach --json' 'dev up --shell --json' \
    'down nope --json' 'down nope nix --json' '--json' 'biuld --json' 'dev --json' 'dev --help --json' 'build --json --flake'; do
    # shellcheck disable=SC2086 # words
    one "$MVMCTL" $words
    check "C2: mvmctl $words has a status of failure" test "$status" != 0
done
run "$MVMCTL" ls --json --names
has 'C2: options that contradict each other are named' "$err" 'json and --names at once'

run "$MVMCTL" build --help
is 'C6: option help fits in 80 columns' "$(printf '%s\n' "$out" | awk 'length > 80' | grep -v '^Usage')" ''
for word in stop rm ps images shell ssh kill start; do
    run "$MVMCTL" "$word"
    has "C6: a hint for the word '$word' of other tools" "$err" '^mvmctl: hint: mvmctl [a-z]+ '
done
mkdir -p "$MVM_HOME/vms/webserver"
run "$MVMCTL" logs websever
has "C6: a VM's name mistyped has a guess" "$err" 'did you mean webserver'

run "$MVMCTL" help
advice=$(printf '%s\n' "$out" | sed -n 's/^  cp -r --no-preserve=mode \(.*\) hello$/\1/p')
check "C5: the advice is to copy an example that is there" test -e "$advice/flake.nix"
has_not 'C5: no example is built in place' "$out" 'run --flake examples'
finish
