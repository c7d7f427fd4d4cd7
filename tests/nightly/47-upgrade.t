#!/bin/sh
# An upgrade loses nothing, with real Linux: images, records of builds and boot snapshots in the cache of an earlier mvmctl, which
# makes its own builder image first and leaves today's to make another. tests/cli/upgrade.t has what needs no builder.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
# shellcheck source=tests/lib/earlier.sh
. "$(dirname "$0")/../lib/earlier.sh"
build_earlier

flake=$tmp/hello
example hello "$flake"
run old build --flake "$flake" --json
is "mvmctl of $commit builds a flake" "$status" 0
image=$(json .image)
run old up --flake "$flake" --name running --json
is "mvmctl of $commit boots it" "$status/$(json .mode)" 0/cold
run old snapshot create running clean
is "mvmctl of $commit saves it" "$status" 0

is "exec runs a program in a VM of $commit" "$(mvm exec running -- hello | cut -c 1-18)" 'Hello from running'
run mvm up --flake "$flake" --name by-flake --json
is "an image of $commit is found by its flake, and boots" "$status $(json .image)" "0 $image"
echo "# $(json .mode) $(json .cold_reason)"
run mvm up "$image" --name by-digest
is "an image of $commit is found by its digest, and boots" "$status $(mvm exec by-digest -- hello | cut -c 1-20)" '0 Hello from by-digest'
run mvm up --from running:clean --name again
has "a snapshot of $commit is refused with the reason" "$status $err" '^1[0-9] .*from before VMs had a network process'
run mvm image verify
is "the images of $commit are as they were made" "$status" 0
run mvm down --all
is "VMs of both are stopped" "$status" 0
run mvm dev status --json
has "the builder image of $commit is judged" "$(json '.builder_cache.reason')" '^(hit|fingerprint_mismatch)$'
run mvm build --flake "$flake" --json
is "the flake is built again on the store of $commit" "$status" 0
finish
