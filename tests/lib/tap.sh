# Sourced by shell tests: TAP, a folder of its own for each test file, and nothing left behind.
# shellcheck shell=sh disable=SC2034,SC2154 # names shared between the test files
set -u
count=0
bad=0
tmp=$(mktemp -d "${MVM_TEST_TMP:?}/test.XXXXXX") || exit 1
MVM_HOME=$tmp/home
MVM_CACHE_DIR=$tmp/cache
export MVM_HOME MVM_CACHE_DIR
trap 'cleanup; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM # and so what was started ends with a test that is told to
cleanup() { :; }

# Makes folders that count as mvmctl's, to be filled before its first start.
ours() {
    mkdir -p "$@"
    for folder in "$@"; do : >"$folder/.mvm"; done
}
mvm() { "$MVMCTL" "$@"; }
# A field of what the last `run` printed.
json() { printf '%s\n' "$out" | jq -r "$1"; }
# Waits until a command succeeds, within SECONDS.
eventually() {
    left=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.1
    done
}

# verdicts FILE: of another program, a test each: "ok NAME" or "not ok NAME" in a line; other lines are nothing.
verdicts() {
    while read -r verdict name; do
        case $verdict in
        ok) pass "$name" ;;
        not) fail "${name#ok }" ;;
        esac
    done <"$1"
}

# A name reads alone in a log. One that begins with "and", "with" and the like goes on from the last that did not, which is put
# in front of it.
named() {
    count=$((count + 1))
    case ${1%% *} in
    and | as | but | in | is | it | its | of | so | that | then | they | to | where | which | who | whole | with) title="$context: $1" ;;
    *)
        title=$1
        context=$1
        ;;
    esac
}
context=
pass() {
    named "$1"
    echo "ok $count - $title"
}
fail() {
    named "$1"
    bad=$((bad + 1))
    echo "not ok $count - $title"
    echo "# failed: $title" >&2
}
skip() {
    named "$1"
    echo "ok $count - $title # SKIP $2"
}
# What a failure had to say, from standard input. On standard error: prove keeps standard output to itself.
say() { head -n 40 | sed 's/^/# /' >&2; }
# check NAME COMMAND...: the command succeeds. check_fails: it does not. Their output is shown where that is not so.
check() {
    name=$1
    shift
    if "$@" >"$tmp/check.out" 2>&1; then
        pass "$name"
    else
        fail "$name"
        tail -n 20 "$tmp/check.out" | say
    fi
}
check_fails() {
    name=$1
    shift
    if "$@" >"$tmp/check.out" 2>&1; then
        fail "$name"
        tail -n 20 "$tmp/check.out" | say
    else
        pass "$name"
    fi
}
# What a command had to say that failed, without the ticks of its progress: FILE, for its errors or its output.
told() { [ ! -s "$1" ] || grep -v '"event":"progress"' "$1" | tail -n 20 | cut -c 1-1000 | sed 's/^/| /' | say; }
# is NAME GOT WANTED: where they differ, the end of what the last command run had to say may tell why.
is() {
    if [ "$2" = "$3" ]; then
        pass "$1"
    else
        fail "$1"
        printf 'got: %s\nwanted: %s\n' "$2" "$3" | say
        told "$tmp/run.err"
        told "$tmp/run.out"
    fi
}
# run COMMAND...: output in $out, errors in $err, status in $status.
run() {
    status=0
    "$@" >"$tmp/run.out" 2>"$tmp/run.err" </dev/null || status=$?
    out=$(cat "$tmp/run.out")
    err=$(cat "$tmp/run.err")
}
# has NAME TEXT PATTERN: the text has a line that matches the extended regular expression.
has() {
    if printf '%s\n' "$2" | grep -qE -e "$3"; then
        pass "$1"
    else
        fail "$1"
        printf 'no line matches: %s\n%s\n' "$3" "$2" | say
    fi
}
has_not() {
    if printf '%s\n' "$2" | grep -qE -e "$3"; then
        fail "$1"
        printf 'a line matches: %s\n%s\n' "$3" "$2" | say
    else
        pass "$1"
    fi
}
finish() {
    echo "1..$count"
    [ "$bad" = 0 ]
    exit
}
