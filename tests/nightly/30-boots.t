#!/bin/sh
# Thirty boots of Linux in a row while everything else is busy: none hangs.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
example hello "$tmp/hello"
run mvm build --flake "$tmp/hello"
is 'an image is built' "$status" 0
busy=
for _ in $(seq "$(nproc)"); do
    timeout 600 sh -c 'while :; do :; done' &
    busy="$busy $!"
done
booted=0
for _ in $(seq 30); do
    [ "$(mvm exec --flake "$tmp/hello" --cold --timeout 60 -- echo up 2>>"$tmp/boots")" = up ] && booted=$((booted + 1))
done
# shellcheck disable=SC2086 # a list of process ids
kill $busy
is 'thirty guests boot on a busy machine' "$booted" 30
[ "$booted" = 30 ] || say <"$tmp/boots"
finish
