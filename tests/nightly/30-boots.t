#!/bin/sh
# Thirty boots of Linux in a row while everything else is busy: none hangs.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/e2e.sh
. "$(dirname "$0")/../lib/e2e.sh"
example hello "$tmp/hello"
run mvm build --flake "$tmp/hello"
is 'an image is built' "$status" 0
boots_while_busy 30 "$tmp/hello"
is 'thirty guests boot on a busy machine' "$booted" 30
finish
