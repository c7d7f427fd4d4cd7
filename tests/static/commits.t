#!/bin/sh
# Commit messages, from a commit on: CONTRIBUTING.md says what they look like.
. "$(dirname "$0")/../lib/tap.sh"
cd "$MVM_SOURCE" || exit 1
since=5de3d81

judge() {
    printf '%b' "$1" >"$tmp/message"
    tools/check-commits "$tmp/message"
}
check 'tools/check-commits takes a subject with its area, and a body' judge 'cli, wire: pass the exit status on\n\nA killed program looked like one that failed.\n'
check_fails 'tools/check-commits refuses a subject without an area' judge 'pass the exit status on\n\nWhy.\n'
check_fails 'tools/check-commits refuses a subject that is no imperative' judge 'cli: passed the exit status on\n\nWhy.\n'
check_fails 'tools/check-commits refuses a subject of 73 columns' judge "cli: $(printf '%068d' 0 | tr 0 a)\n\nWhy.\n"
check 'tools/check-commits takes a subject of 72 columns' judge "cli: $(printf '%067d' 0 | tr 0 a)\n\nWhy.\n"
check_fails 'tools/check-commits refuses a body that follows without an empty line' judge 'cli: pass the exit status on\nWhy.\n'

# A repository of its own: the change that is staged decides whether a body is needed.
mkdir "$tmp/repo" && cd "$tmp/repo" || exit 1
git init -q . && git config user.name t && git config user.email t@localhost
echo x >file && git add file && git commit -qm 'all: begin'
first=$(git rev-parse HEAD)
echo y >file && git commit -qam 'all: change one line'
check 'tools/check-commits takes a trivial change without a body' "$MVM_SOURCE/tools/check-commits" "$first"
seq 50 >file && git commit -qam 'all: change many lines'
check_fails 'tools/check-commits refuses fifty changed lines without a body' "$MVM_SOURCE/tools/check-commits" "$first"
check_fails 'tools/check-commits says when there is no such commit' "$MVM_SOURCE/tools/check-commits" no-such-commit
cd "$MVM_SOURCE" || exit 1

if ! git rev-parse -q --verify "$since^{commit}" >/dev/null 2>&1; then
    skip "commits since $since are as CONTRIBUTING.md says" 'the history does not reach back to it'
else
    check "commits since $since are as CONTRIBUTING.md says" tools/check-commits "$since"
fi
finish
