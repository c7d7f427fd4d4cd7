#!/bin/sh
# What is recorded of builds decides what boots: the right image after edits, and nothing lost by an error that passes.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
unset MVM_NO_PERSISTENT_BUILDER # one builder for all
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
    jq --arg name "$name" 'del(.artifacts[$name])' "$folder/manifest.json" >"$tmp/copy/manifest.json"
    run mvm up "$tmp/copy" --name copy
    has "T9: but no $name that its manifest does not list" "$status $err" "^14 .*'$name' is in the image, but not in its manifest"
done
cp "$folder/manifest.json" "$tmp/copy/manifest.json"
echo laid >"$folder/laid-in.txt"
run mvm up --flake "$flake" --name laid
has 'T9: an image in the cache has nothing but what its manifest lists' "$status $err" "^14 .*'laid-in.txt' is in the image"
run mvm build --flake "$flake" --json
is 'T9: and is built anew' "$status $(json .image) $(find "$folder" -name 'laid*')" "0 $a "

# Memory that the kernel does not boot with is refused before anything starts.
run mvm up --flake "$flake" --name little --memory 64M
has 'R13: up with less memory than the image boots with is refused with the number' "$status $(printf '%s\n' "$err" | grep 'too little')" '^14 .*64 MiB of memory are too little: the kernel of values needs 96 MiB'
is 'R13: and nothing is started' "$(vm_folders)" ''
run mvm exec --flake "$flake" --memory 95M -- true
has 'R13: exec too' "$status $err" '^125 .*95 MiB of memory are too little'
is 'R13: with the number that is named the image boots' "$(mvm exec --flake "$flake" --cold --memory 96M -- cat /etc/value)" A

# A byte that is changed through a mapping of a page that was dirty already: no timestamp tells of it, so only reading does.
cat >"$tmp/change.py" <<'P'
import mmap, subprocess, sys
path, at, quiet = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
quiet, then = quiet[:quiet.index("--")], quiet[quiet.index("--") + 1 :]
with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
    m[at] = m[at]
    subprocess.run(["sh", "-c", quiet[0]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    m[at] ^= 1
    code = subprocess.run(["sh", "-c", then[0]]).returncode
    m[at] ^= 1
sys.exit(code)
P
changed() { # FILE OFFSET COMMAND: runs it while the byte is another, after a start that read the file
    chmod u+w "$1"
    run python3 "$tmp/change.py" "$1" "$2" "$MVMCTL up --flake $flake --name quiet; $MVMCTL down quiet" -- "$3"
}
mvm up --flake "$flake" --name kept >/dev/null && mvm down kept >/dev/null # with a snapshot
memory=$(ls "$MVM_CACHE_DIR/snapshots/$a"/*/memory)
run mvm image verify --json
is 'T8: image verify finds all good' "$(json '.status, (.found | map(.kind + " " + .state) | unique | join(","))' | tr '\n' ' ')" 'ok boot snapshot good,image good '
changed "$memory" 5000000 "$MVMCTL image verify --json"
is 'T8: image verify reads the memory of snapshots' "$status $(json '.found[] | select(.state != "good") | .kind + " " + .state')" '14 boot snapshot damaged'
changed "$memory" 5000000 "$MVMCTL dev cache inspect --verify --json"
is 'T8: so does dev cache inspect --verify' "$(json '.verified.boot_snapshots.damaged, .verified.images.damaged' | tr '\n' ' ')" '1 0 '
changed "$memory" 5000000 "$MVMCTL up --flake $flake --name read --verify --json"
has 'T8: up --verify restores no changed snapshot' "$status $(json '.mode + ": " + .cold_reason')" "^0 cold: the snapshot's file 'memory' has another content"
mvm down read >/dev/null
memory=$(ls "$MVM_CACHE_DIR/snapshots/$a"/*/memory)
run mvm up --flake "$flake" --name read --verify --json
is 'T8: up --verify restores one that is whole' "$(json .mode)" warm
mvm down read >/dev/null
changed "$memory" 5000000 "$MVMCTL dev cache repair --json"
is 'T8: dev cache repair removes a changed snapshot, and it alone' "$(json '.status, .verified.boot_snapshots.damaged, .verified.images.good' | tr '\n' ' ')$(find "$MVM_CACHE_DIR/snapshots/$a" -name memory)" 'repaired 1 2 '
changed "$folder/rootfs.ext4" 2000000 "$MVMCTL image verify --json"
is 'T8: image verify reads images' "$(json '.found[] | select(.state != "good") | .kind + ": " + .reason')" 'image: rootfs.ext4 has another content than recorded'
chmod u+w "$tmp/copy/rootfs.ext4"
changed "$tmp/copy/rootfs.ext4" 2000000 "$MVMCTL up $tmp/copy --name read --verify"
has 'T8: up --verify reads the image in a folder' "$status $err" '^14 .*rootfs.ext4 has another content'
rm "$tmp/copy/manifest.json"
run mvm up "$tmp/copy" --name read --verify
has 'T8: which has to have a manifest' "$status $err" '^14 .*no manifest.json'
changed "$folder/rootfs.ext4" 2000000 "$MVMCTL exec --flake $flake --verify -- true"
has 'T8: exec --verify reads the image' "$status $err" '^125 .*rootfs.ext4 has another content'
run mvm build --flake "$flake" --json
is 'T8: the changed image is gone, a build makes it again' "$(json '.cached,.image' | tr '\n' ' ')" "false $a "
chmod u+w "$folder"
changed "$folder/rootfs.ext4" 2000000 "$MVMCTL run --flake $flake --verify --name read --json"
is 'T8: run --verify builds it again and boots it' "$status $(json .cached)" '0 false'
mvm down read >/dev/null
run mvm exec read --verify -- true
has 'T8: a VM that runs is not verified' "$status $err" '^2 .*--verify has no effect without --flake'

finish
