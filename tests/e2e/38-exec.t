#!/bin/sh
# Programs in a guest: what they may be given, and what is said of one that cannot be started.
. "$(dirname "$0")/../lib/tap.sh"
wants_image=1
. "$(dirname "$0")/../lib/e2e.sh"
check 'an image is there' test -s "$image/vmlinux"
run mvm up "$image" --name h
is 'and started' "$status" 0

# shellcheck disable=SC2016 # for the guest's shell
{
    is 'R11: 1,025 arguments arrive' "$(seq 1025 | xargs -n 1025 "$MVMCTL" exec h -- sh -c 'echo $#' sh)" 1025
    is 'R11: 100,000 arguments arrive' \
        "$(seq 100000 | xargs -s 1500000 -n 100000 "$MVMCTL" exec h -- sh -c 'shift 99999; echo $# $1' sh)" '1 100000'
    head -c 131000 /dev/zero | tr '\0' a >"$tmp/long"
    is 'R11: an argument of 131,000 bytes arrives' "$(mvm exec h -- sh -c 'echo ${#1}' sh "$(cat "$tmp/long")")" 131000
    is 'R11: a variable of as many bytes, too' "$(mvm exec h --env "LONG=$(cat "$tmp/long")" -- sh -c 'echo ${#LONG}')" 131000
    is 'R11: with input and output behind them' \
        "$(echo through | mvm exec h -- sh -c 'cat; exit 7' sh "$(cat "$tmp/long")"; echo $?)" "$(printf 'through\n7')"
}

run mvm exec h --cwd /nope -- true
is 'R11: a working folder that is not there has status 126' "$status" 126
has 'R11: and is told as that' "$err" 'the working folder /nope: No such file or directory'
printf '#!/no/such/shell\n' >"$tmp/script"
chmod +x "$tmp/script"
mvm cp "$tmp/script" h:/tmp/script
run mvm exec h -- /tmp/script
is 'R11: a script without its interpreter has status 126' "$status" 126
has 'R11: and it is said which one' "$err" '/tmp/script: its interpreter /no/such/shell is not in the guest'
mvm cp "$MVMCTL" h:/tmp/dynamic
run mvm exec h -- /tmp/dynamic
is 'R11: a program without its loader has status 126' "$status" 126
has 'R11: and it is said which one' "$err" '/tmp/dynamic: its interpreter /lib.*/ld-.* is not in the guest'
run mvm exec h -- nosuch
is 'R11: a program that is not there has status 127' "$status" 127
has 'R11: and is told as that' "$err" 'nosuch: no such program in the guest'
finish
