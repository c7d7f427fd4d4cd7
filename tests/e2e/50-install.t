#!/bin/sh
# An installed tree works like the checkout.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
check 'meson installs' meson install -C "$MVM_RELEASE" --no-rebuild --destdir "$tmp/root"
root=$(find "$tmp/root" -name mvmctl -path '*/bin/mvmctl' -printf '%h\n')/..
check 'with a man page' test -s "$root/share/man/man1/mvmctl.1"
for file in bash-completion/completions/mvmctl zsh/site-functions/_mvmctl fish/vendor_completions.d/mvmctl.fish; do
    check "with ${file%%/*} completion" test -s "$root/share/$file"
done
init=$root/libexec/mvm/mvm-init
check 'mvm-init is under 1 MiB' test "$(stat -c %s "$init")" -lt 1048576
check_fails 'and static' sh -c "readelf -l '$init' | grep INTERP"

# Moved elsewhere, without the checkout: from nothing to an answer.
mv "$tmp/root" "$tmp/elsewhere"
root=$tmp/elsewhere${root#"$tmp/root"}
cp -r "$MVM_CACHE_DIR/stage0" "$tmp/stage0" # the packages are the same
MVM_HOME=$tmp/home
MVM_CACHE_DIR=$tmp/cache
mkdir -p "$MVM_CACHE_DIR"
mv "$tmp/stage0" "$MVM_CACHE_DIR/"
MVMCTL=$root/bin/mvmctl
example hello "$tmp/hello"
run mvm run --flake "$tmp/hello"
is 'an installed mvmctl builds and boots' "$status" 0
[ "$status" = 0 ] || printf '%s\n' "$err" | tail -n 20 | sed 's/^/# /'
has 'and gets the answer' "$(mvm exec hello -- hello)" 'Hello from hello'
finish
