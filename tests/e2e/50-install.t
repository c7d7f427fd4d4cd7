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
MVM_HOME=$tmp/own/home
MVM_CACHE_DIR=$tmp/own/cache
ours "$MVM_HOME" "$MVM_CACHE_DIR"
mv "$tmp/stage0" "$MVM_CACHE_DIR/"
MVMCTL=$root/bin/mvmctl
example hello "$tmp/hello"
run mvm run --flake "$tmp/hello"
is 'an installed mvmctl builds and boots' "$status" 0
has 'and gets the answer' "$(mvm exec hello -- hello)" 'Hello from hello'

# An installed mvmctl may take a published builder image, through the same verification as dev images.
run mvm dev image export --kind builder --version 7 --to "$tmp/set" --json
is 'a builder image is exported' "$status" 0
minisign -G -W -p "$tmp/key.pub" -s "$tmp/key.sec" >/dev/null
run mvm dev image sign "$tmp/set" --key "$tmp/key.sec"
is 'and signed' "$status" 0
rm -rf "$MVM_CACHE_DIR/builder-vm/$(uname -m)" "${MVM_HOME:?}/dev" "$MVM_CACHE_DIR/stage0"
printf '[images]\nbuilder_url = "file://%s"\npublic_keys = ["%s"]\n' "$tmp/set" "$(tail -n 1 "$tmp/key.pub")" >"$MVM_HOME/config.toml"
run mvm dev cache repair --json
is 'published, it is taken as it is' "$(json '.builder_cache.kind + " " + .builder_cache.reason')/$status" 'release hit/0'
is 'with its provenance' "$(jq -r '.source_kind + " " + .seed' "$MVM_CACHE_DIR/builder-vm/$(uname -m)/.mvm-provenance.json")" 'release published builder'
echo '# changed' >>"$tmp/hello/flake.nix"
run mvm build --flake "$tmp/hello"
is 'and builds' "$status" 0
rm -rf "$MVM_CACHE_DIR/builder-vm/$(uname -m)"
run env MVM_HOME="$MVM_HOME" MVM_CACHE_DIR="$MVM_CACHE_DIR" "$MVM_RELEASE/mvmctl" dev status --json
is 'a source checkout is of another kind' "$(json .builder_cache.kind)" source-checkout
finish
