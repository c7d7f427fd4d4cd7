# Sourced behind tap.sh by upgrade tests: mvmctl of an earlier commit, built from this repository's history, programs alone (a
# quarter of a minute), and kept in the build folder.
#
# A change of a format on disk or of the protocol leaves the commit as it is and adds a check to the upgrade tests of what becomes
# of the old files. The commit is raised when nobody has files of it any more: after a release, to the release before it.
# shellcheck shell=sh disable=SC2034,SC2154 # names shared between the test files
commit=9807b2e
earlier=$MVM_RELEASE/upgrade-$commit

old() { "$earlier/build/mvmctl" "$@"; }
# Ends the test where it cannot be built here.
build_earlier() {
    if ! git -C "$MVM_SOURCE" cat-file -e "$commit^{commit}" 2>/dev/null; then
        skip "an upgrade from $commit loses nothing" 'the history does not reach back to it'
        finish
    fi
    exec 9>"$earlier.lock"
    flock 9
    if [ ! -e "$earlier/done" ]; then
        rm -rf "$earlier" && mkdir -p "$earlier/source"
        git -C "$MVM_SOURCE" archive "$commit" | tar -x -C "$earlier/source"
        meson setup "$earlier/build" "$earlier/source" --buildtype=debug >"$earlier/log" 2>&1 &&
            ninja -C "$earlier/build" mvmctl mvm-init mvm-jail mvm-preload.so src/image/mvm-mkrootfs src/image/mvm-nixdb \
                >>"$earlier/log" 2>&1 && : >"$earlier/done"
    fi
    exec 9>&-
    [ -e "$earlier/done" ] && return
    fail "mvmctl of $commit is built"
    tail -n 20 "$earlier/log" | say
    finish
}
