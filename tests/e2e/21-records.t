#!/bin/sh
# What is recorded of builds decides what boots: the right image after edits, and nothing lost by an error that passes.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
flake=$tmp/values
mkdir "$flake"
giving() {
    cat >"$flake/flake.nix" <<N
{
  inputs.mvm.url = "mvm";
  outputs = { self, mvm }: {
    packages.x86_64-linux.default = mvm.lib.x86_64-linux.mkGuest {
      name = "values";
      files."/etc/value".text = "$1";
      command = "exec sleep 1000000";
    };
  };
}
N
}
value_of() { # VM: the text that the image which boots has
    mvm up --flake "$flake" --name "$1" >/dev/null && mvm exec "$1" -- cat /etc/value && mvm down "$1" >/dev/null
}

giving A
run mvm build --flake "$flake" --json
a=$(json .image)
giving B
run mvm build --flake "$flake" --json
b=$(json .image)
check 'two texts make two images' test -n "$a" -a -n "$b" -a "$a" != "$b"
is 'up boots what was built last' "$(value_of b)" B
giving A
run mvm build --flake "$flake" --json
is 'R1: the first text again is found in the cache' "$(json '.cached,.image' | tr '\n' ' ')" "true $a "
is 'R1: up boots the image of the build before it, after A, B, A' "$(value_of a)" A

# Descriptors run out at every possible place; nothing may be thrown away for that.
before=$(cd "$MVM_CACHE_DIR" && find builds artifacts | sort)
snapshots() {
    find "$MVM_CACHE_DIR/snapshots" \( -name memory -o -name state -o -name meta.json \) -printf '%i %p\n' | sort
}
warm=$(snapshots)
for n in 4 5 6 7 8 9 10 11 12 14 16 18 20 22 24 26 28 30 34 38; do
    prlimit --nofile="$n" "$MVMCTL" up --flake "$flake" --name few >/dev/null 2>&1
    prlimit --nofile="$n" "$MVMCTL" build --flake "$flake" >/dev/null 2>&1
    mvm down few >/dev/null 2>&1
done
is 'R2: running out of descriptors loses no record and no image' "$(cd "$MVM_CACHE_DIR" && find builds artifacts | sort)" "$before"
is 'R2: nor a snapshot' "$(snapshots)" "$warm"
run mvm build --flake "$flake" --json
is 'R2: the next build has nothing to do' "$(json .cached)" true

# A digest of the state is taken where the VMM reads it.
rm -rf "$MVM_CACHE_DIR/stat-index"
run mvm up --flake "$flake" --name again --json
is 'R9: a snapshot whose files must be read again is restored all the same' "$(json .mode)" warm
mvm down again >/dev/null

# A lock that the caller holds is not held by the VM.
(
    exec 9>"$tmp/lock"
    flock 9
    mvm up --flake "$flake" --name keeps >/dev/null
)
check 'T10: a descriptor of the caller does not stay open in supervisor or VMM' flock -n "$tmp/lock" true
mvm down keeps >/dev/null

# A flipped byte in what the reference points to.
ref=$(find "$MVM_CACHE_DIR/builds/refs" -name '*.json')
sed -i "s/$a/$b/" "$ref"
run mvm up --flake "$flake" --name flipped
has_not 'T9: a changed reference boots nothing else' "$status" '^0$'
run mvm build --flake "$flake" --json
is 'T9: and the next build mends it' "$status" 0
is 'T9: so that up boots the right image' "$(value_of mended)" A


# A file that is laid into an image which does not list it.
mvm down few again keeps flipped mended a b >/dev/null 2>&1
folder=$(ls -d "$MVM_CACHE_DIR/artifacts/$a")
cp -r "$folder" "$tmp/copy"
chmod -R u+w "$folder" "$tmp/copy"
echo 'mvm.root=vda init=/laid/in' >"$tmp/copy/cmdline.txt.new"
run mvm up "$tmp/copy" --name copy
is 'T9: a folder of the user may have other files' "$status" 0
mvm down copy >/dev/null
for name in initrd image.json cmdline.txt; do
    [ ! -e "$tmp/copy/$name" ] || continue
    printf 'mvm.root=vda init=/laid/in' >"$tmp/copy/$name"
    run mvm up "$tmp/copy" --name copy
    has "T9: but no $name that its manifest does not list" "$status $err" "^14 .*'$name' is in the image, but not in its manifest"
    rm -f "$tmp/copy/$name"
done
echo laid >"$folder/laid-in.txt"
run mvm up --flake "$flake" --name laid
has 'T9: an image in the cache has nothing but what its manifest lists' "$status $err" "^14 .*'laid-in.txt' is in the image"
run mvm build --flake "$flake" --json
is 'T9: and is built anew' "$status $(json .image) $(ls "$folder" | grep -c laid)" "0 $a 0"

finish
