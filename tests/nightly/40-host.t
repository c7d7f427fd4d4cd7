#!/bin/sh
# Builders from nothing: an ordinary user's, and one whose first build was killed while it fetched packages.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
no_mmdebstrap() { [ -z "$(pgrep -f "mmdebstrap.*$tmp")" ]; }
flake=$tmp/hello
example hello "$flake"

if [ "$(id -u)" = 0 ] && setpriv --reuid=nobody --regid=nogroup --clear-groups test -r "$MVM_RELEASE/mvmctl"; then
    chmod 711 "$MVM_TEST_TMP" "$tmp"
    mkdir "$tmp/user"
    cp -r "$flake" "$tmp/user/hello"
    chown -R nobody "$tmp/user"
    as_user() {
        setpriv --reuid=nobody --regid=nogroup --clear-groups env -i PATH="$PATH" HOME="$tmp/user" "$MVM_RELEASE/mvmctl" "$@"
    }
    run as_user run --flake "$tmp/user/hello" --name theirs
    is 'an ordinary user builds and boots from nothing' "$status" 0
    has 'an ordinary user gets the answer of their VM' "$(as_user exec theirs -- hello)" 'Hello from theirs'
    as_user down --all >/dev/null
    as_user dev down >/dev/null
else
    skip 'an ordinary user builds and boots from nothing' 'needs root, and a checkout that others can read'
fi

MVM_HOME=$tmp/h0 MVM_CACHE_DIR=$tmp/c0 "$MVMCTL" build --flake "$flake" >/dev/null 2>"$tmp/phase.err" &
pid=$!
eventually 60 grep -q '^mvmctl: fetching the packages' "$tmp/phase.err"
sleep 1.5
kill -9 "$pid"
wait "$pid" 2>/dev/null
run env MVM_HOME="$tmp/h0" MVM_CACHE_DIR="$tmp/c0" "$MVMCTL" build --flake "$flake"
is 'after a kill while packages are fetched the next build is right' "$status" 0
check 'after that kill no fetching process is left' eventually 30 no_mmdebstrap
is 'nor half of the packages is left' "$(find "$tmp/c0/stage0" -mindepth 1 -maxdepth 1 -name '.*' ! -name '*lock*' | wc -l)" 0
finish
