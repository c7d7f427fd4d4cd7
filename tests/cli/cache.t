#!/bin/sh
# What killed processes left unfinished is removed on demand, and what is in the making is not.
. "$(dirname "$0")/../lib/tap.sh"
ours "$MVM_HOME" "$MVM_CACHE_DIR"
digest=$(printf 'an image' | sha256sum | cut -c 1-64)
left="cache/artifacts/.stage-1-0 cache/snapshots/$digest/.256m-1c.new home/snapshots/.new-1 home/snapshots/.images/.new
    home/dev/builds/.stage-0 home/dev/prebuilt/.fetch cache/downloads/.verify"
leave() {
    for folder in $left; do
        mkdir -p "$tmp/$folder"
        echo begun >"$tmp/$folder/file"
    done
    echo begun >"$MVM_CACHE_DIR/builder-vm/.nix-store-copy-1.img"
}
begun() { (cd "$tmp" && find home cache \( -name '.stage-*' -o -name '*.new*' -o -name '.fetch' -o -name '.verify' -o -name '.nix-store-copy-*' \) | sort | tr '\n' ' '); }

mkdir -p "$MVM_CACHE_DIR/builder-vm"
leave
is 'dev cache inspect counts the snapshots that killed processes left' "$(mvm dev cache inspect --json | jq .snapshots.unfinished)" 1
run mvm dev cache prune
is 'dev cache prune removes everything that killed processes left unfinished' "$status $(begun)" '0 '

leave
flock "$MVM_CACHE_DIR/artifacts/.stage-1-0" flock "$MVM_CACHE_DIR/snapshots/$digest/.256m-1c.lock" flock "$MVM_HOME/snapshots/.new-1" \
    flock "$MVM_HOME/dev/builds/.lock" flock "$MVM_CACHE_DIR/downloads/.lock" flock "$MVM_CACHE_DIR/builder-vm/.nix-store-copy-1.img" \
    "$MVMCTL" dev cache prune >/dev/null
is 'dev cache prune leaves what living processes make' "$(begun)" "cache/artifacts/.stage-1-0 cache/builder-vm/.nix-store-copy-1.img cache/downloads/.verify \
cache/snapshots/$digest/.256m-1c.new home/dev/builds/.stage-0 home/dev/prebuilt/.fetch home/snapshots/.new-1 "
is 'dev cache inspect does not count a snapshot in the making as left' \
    "$(flock "$MVM_CACHE_DIR/snapshots/$digest/.256m-1c.lock" "$MVMCTL" dev cache inspect --json | jq .snapshots.unfinished)" 0

# Files that are written as one step.
temporary() { (cd "$tmp" && find home cache -name '.*.tmp' | sort | tr '\n' ' '); }
old="home/run/.accel.json.999999999.0.tmp cache/builds/.0123.json.999999999.12.tmp"
kept="home/run/.accel.json.$$.0.tmp cache/builds/.a.b.tmp"
mkdir -p "$MVM_CACHE_DIR/builds" "$MVM_HOME/run"
for file in $old $kept; do
    echo begun >"$tmp/$file"
    touch -d '2 minutes ago' "$tmp/$file"
done
echo begun >"$MVM_HOME/run/.young.999999999.0.tmp"
run mvm dev cache prune
is 'dev cache prune removes files that killed processes had begun, and no others' "$status $(temporary)" \
    "0 cache/builds/.a.b.tmp home/run/.accel.json.$$.0.tmp home/run/.young.999999999.0.tmp "

# A wrong setting of a machine that has no builder yet: said before anything is fetched, and no seed is blamed for it.
run env MVM_STORE_CAP=nonsense "$MVMCTL" dev cache repair --verbose
is 'a store that can have no such cap keeps a builder from being made: a wrong setting' "$status" 3
has 'and it is named' "$err" "^mvmctl: \[config\] a store's cap of 'nonsense' is not a size"
has_not 'no seed is tried' "$err" 'stage 0|fetch'
finish
