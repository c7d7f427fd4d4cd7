#!/bin/sh
# The builder image: judged by a real cache damaged in each way, built twice to the same bytes, killed while it is built.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
arch=$(uname -m)
no_vm() { [ -z "$(vm_processes)$(supervisors)" ]; }
reason() { mvm dev status --json | jq -r .builder_cache.reason; }

run mvm dev cache repair --json
is 'there is a builder image' "$(json .builder_cache.reason)" hit
live=$MVM_CACHE_DIR/builder-vm/$arch
whole=$tmp/whole
cp -al "$live" "$whole"
is 'it has the bytes that the host makes of the same packages' \
    "$(cd "$live" && sha256sum vmlinux rootfs.ext4 initrd cmdline.txt)" \
    "$(cd "$MVM_HOME/dev/current" && sha256sum vmlinux rootfs.ext4 initrd cmdline.txt)"
is 'its provenance says where it comes from' "$(jq -r '.schema_version, .source_kind, (.artifacts | join(" "))' "$live/.mvm-provenance.json" | tr '\n' ' ')" \
    '1 source-checkout vmlinux rootfs.ext4 initrd cmdline.txt manifest.json '
has 'with its packages, versions and digests' "$(jq -r '.packages[] | .name + " " + .version + " " + .sha256' "$live/.mvm-provenance.json")" '^nix-bin 2\.[0-9.+a-z-]* [0-9a-f]{64}$'
is 'manifest.json names what there is' "$(jq -r '.artifacts | keys | sort | join(" ")' "$live/manifest.json")" 'cmdline.txt initrd rootfs.ext4 vmlinux'
is 'and its size' "$(jq -r '.artifacts["rootfs.ext4"].size' "$live/manifest.json")" "$(stat -c %s "$live/rootfs.ext4")"
is 'and its digest, which the host has added' "$(jq -r '.artifacts["rootfs.ext4"].sha256' "$live/manifest.json")" "$(sha256sum <"$live/rootfs.ext4" | cut -c1-64)"

# One damage for each reason, in the order of judging.
reasons='missing_artifact invalid_stage0_artifacts missing_fingerprint fingerprint_mismatch missing_artifact_digest_manifest artifact_digest_mismatch missing_provenance provenance_mismatch'
replace() { rm -f "$live/$1" && cat >"$live/$1"; }
damage() {
    case $1 in
    missing_artifact) rm -f "$live/rootfs.ext4" ;;
    invalid_stage0_artifacts) head -c 1000 "$whole/vmlinux" | replace vmlinux ;;
    missing_fingerprint) rm -f "$live/.mvm-source.sha256" ;;
    fingerprint_mismatch) [ ! -e "$live/.mvm-source.sha256" ] || echo 0123 | replace .mvm-source.sha256 ;;
    missing_artifact_digest_manifest) rm -f "$live/.mvm-artifacts.sha256" ;;
    artifact_digest_mismatch) { cat "$whole/initrd" && printf x; } | replace initrd ;;
    missing_provenance) rm -f "$live/.mvm-provenance.json" ;;
    provenance_mismatch) [ ! -e "$live/.mvm-provenance.json" ] || sed 's/source-checkout/release/' "$whole/.mvm-provenance.json" | replace .mvm-provenance.json ;;
    esac
}
undamage() { rm -rf "$live" && cp -al "$whole" "$live"; }
wrong=
tried=0
rest=$reasons
for first in $reasons; do
    for second in $rest; do
        damage "$second"
        damage "$first"
        got=$(reason)
        [ "$got" = "$first" ] || wrong="$wrong $first+$second:$got"
        tried=$((tried + 1))
        undamage
    done
    rest=${rest#* }
done
is "every damage, and of $tried pairs the earlier one, is the reason" "$wrong" ''
is 'undamaged it is a hit' "$(reason)" hit
reads() {
    ASAN_OPTIONS=detect_leaks=0 strace -e trace=read,pread64 -o "$tmp/reads" "$MVMCTL" dev status "$@" >/dev/null 2>&1
    grep -cE '^(read|pread64)\(' "$tmp/reads"
}
mvm dev status >/dev/null
usual=$(reads)
all=$(reads --verify)
check "a verdict reads little, --verify everything ($usual and $all reads)" test "$usual" -lt 300 -a "$all" -gt 700
{ head -c 30000000 "$whole/rootfs.ext4" && printf X && tail -c +30000002 "$whole/rootfs.ext4"; } | replace rootfs.ext4
is 'the right size with the wrong content is noticed' "$(reason)" artifact_digest_mismatch
rm "$live/rootfs.ext4" && ln -s "$whole/rootfs.ext4" "$live/rootfs.ext4"
is 'a symlink in place of an artifact is none' "$(reason)" invalid_stage0_artifacts
run mvm doctor
has 'doctor says it too' "$out" 'builder image.*invalid_stage0_artifacts'
undamage

# A folder that is read only, or somebody else's.
if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    # shellcheck disable=SC2016 # expanded in the namespace
    run unshare --mount --propagation private sh -c 'mount --bind "$MVM_CACHE_DIR" "$MVM_CACHE_DIR" && mount -o remount,ro,bind "$MVM_CACHE_DIR" && exec "$@"' sh "$MVMCTL" dev status --json
    is 'a read-only cache is judged' "$(json .builder_cache.reason)" hit
    chown nobody "$MVM_CACHE_DIR/builder-vm"
    run mvm build --flake "$MVM_SOURCE/examples/hello"
    is "somebody else's cache folder is refused" "$status" 3
    has 'with a way out' "$err" 'belongs to another user'
    chown root "$MVM_CACHE_DIR/builder-vm"
else
    skip 'a read-only cache, or of somebody else' 'needs root and mount namespaces'
fi

# An empty cache, and seeds of which the first is none: a runtime image. Two at once: one builds, the other waits.
hello=$template/hello
if [ ! -d "$hello" ]; then
    example hello "$tmp/hello"
    run mvm build --flake "$tmp/hello" --json
    hello=$(dirname "$(json .kernel)")
fi
mv "$MVM_HOME/dev" "$tmp/dev"
mkdir -p "$MVM_HOME/dev/prebuilt/v0.9"
cp "$hello"/* "$MVM_HOME/dev/prebuilt/v0.9/"
mv "$MVM_HOME/dev/prebuilt/v0.9" "$MVM_HOME/dev/current"
cp -aL "$tmp/dev/current" "$MVM_HOME/dev/prebuilt/v0.10"
mkdir "$MVM_HOME/dev/prebuilt/v0.9"
MVM_CACHE_DIR=$tmp/cache2
mkdir "$MVM_CACHE_DIR"
unset MVM_NO_PERSISTENT_BUILDER
least_flake "$tmp/least"
least_flake "$tmp/another" '# another'
"$MVMCTL" build --flake "$tmp/another" --verbose --json >"$tmp/first.out" 2>"$tmp/first.err" &
first=$!
check 'one builds the builder image' eventually 60 grep -qF '"phase":"builder-start"' "$tmp/first.err"
run mvm build --flake "$tmp/least" --json
is 'a build that has to wait for it is right' "$status" 0
has 'it says for whom it waits' "$err" "waiting for the builder image that another process builds \(pid $first: building the builder image\)"
status=0
wait "$first" || status=$?
is 'the other one is right, too' "$status" 0
[ "$status" = 0 ] || { told "$tmp/first.err" && told "$tmp/first.out"; }
mvm dev down >/dev/null 2>&1
MVM_NO_PERSISTENT_BUILDER=1
export MVM_NO_PERSISTENT_BUILDER
has 'a runtime image is no seed' "$(cat "$tmp/first.err")" "stage 0 seed 'current': no_host_vm_init"
has 'the newest version is' "$(cat "$tmp/first.err")" "stage 0 seed 'prebuilt v0.10': taken"
is 'the JSON says so, too' "$(jq -r '.builder | .kind, .reason, .seed, (.passed_over[] | .seed, .reason)' "$tmp/first.out" | tr '\n' ' ')" \
    'source-checkout missing_artifact prebuilt v0.10 current no_host_vm_init '
live2=$MVM_CACHE_DIR/builder-vm/$arch
is 'built in an empty store, it has the same bytes' "$(cat "$live2/.mvm-artifacts.sha256")" "$(cat "$whole/.mvm-artifacts.sha256")"
check 'nothing of the building is left' test -z "$(find "$MVM_CACHE_DIR/builder-vm" -maxdepth 1 -name '.*stage0*')"

# What is said about it can be shown to anybody.
rm -f "$live2/initrd" # something to tell
{
    mvm dev status
    mvm dev status --json
    mvm dev cache inspect
    mvm dev cache inspect --json
    grep -E 'builder cache \(|stage 0 seed' "$tmp/first.err"
    jq -c .builder "$tmp/first.out"
} >"$tmp/said" 2>&1
has_not 'no folder of this machine is told' "$(cat "$tmp/said")" "$tmp|$HOME/"
[ "$(id -un)" = root ] || has_not 'nor the user' "$(cat "$tmp/said")" "$(id -un)"
if [ "$(uname -n | wc -c)" -gt 5 ]; then
    has_not 'nor the host' "$(cat "$tmp/said")" "$(uname -n)"
else
    skip 'nor the host' 'its name is too short to be looked for'
fi
has_not 'nor a digest' "$(cat "$tmp/said")" '[0-9a-f]{12}'
check 'the decisions were among it' grep -q "stage 0 seed 'prebuilt v0.10': taken" "$tmp/said"

# Killed at random moments while it is built: the next command finds or builds a whole image. The last round is left alone.
rm -rf "$MVM_CACHE_DIR/builder-vm/$arch"
for round in 1 2 3 4 5; do
    "$MVMCTL" dev cache repair >/dev/null 2>"$tmp/killed.err" &
    pid=$!
    sleep "$(awk -v seed="$round$pid" 'BEGIN { srand(seed); print 0.3 + rand() * 9 }')"
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    check "kill $round leaves no VM" eventually 10 no_vm
    got=$(reason)
    case $got in hit | missing_artifact) ;; *) fail "after kill $round the cache is whole or empty, not $got" ;; esac
done
rm -f "$live2/initrd" # should a build have been quicker than its kill
run mvm dev cache repair --json
is 'after five kills the next command is right' "$(json .builder_cache.reason)/$(json .status)" hit/repaired
is 'with the same bytes' "$(cat "$live2/.mvm-artifacts.sha256")" "$(cat "$whole/.mvm-artifacts.sha256")"
check 'a repair sweeps images that are no seeds' test ! -e "$MVM_HOME/dev/current" -a ! -e "$MVM_HOME/dev/prebuilt/v0.9"
check 'and nothing is left' test -z "$(find "$MVM_CACHE_DIR/builder-vm" -maxdepth 1 -name '.*stage0*')"

# An image whose flake needs a file that is not among its sources cannot be built: nothing else can get into it.
mkdir -p "$tmp/build/src/image"
cp "$MVM_BUILD/mvmctl" "$MVM_BUILD/mvm-init" "$tmp/build/"
cp "$MVM_BUILD/src/image/mvm-mkrootfs" "$MVM_BUILD/src/image/mvm-nixdb" "$tmp/build/src/image/"
cp -r "$MVM_SOURCE/nix" "$tmp/build/nix-source"
run "$tmp/build/mvmctl" dev status --json
is 'another build folder with the same sources has the same fingerprint' "$(json .builder_cache.reason)" hit
echo '{ }' >"$tmp/build/nix-source/images/builder-vm/.secret.nix"
run "$tmp/build/mvmctl" dev status --json
is 'a hidden file is no source' "$(json .builder_cache.reason)" hit
sed -i 's|outputs =|outputs = (import ./.secret.nix).x or|' "$tmp/build/nix-source/images/builder-vm/flake.nix"
run "$tmp/build/mvmctl" dev status --json
is 'a changed flake.nix is noticed' "$(json .builder_cache.reason)" fingerprint_mismatch
run "$tmp/build/mvmctl" dev cache repair
is 'and what it imports has to be a source' "$status" 10
has 'or Nix says so' "$err" '\.secret\.nix'
is 'the image there was is still there, whole' "$(reason)" hit

# A full disk.
space="unshare --mount --propagation private"
[ "$(id -u)" = 0 ] || space="unshare --user --map-root-user --mount --propagation private"
if $space true 2>/dev/null; then
    # shellcheck disable=SC2016
    run $space sh -c 'mount -t tmpfs -o size=40m none "$MVM_CACHE_DIR/builder-vm" && exec timeout 120 "$@"' sh "$MVMCTL" dev cache repair
    is 'a full disk ends it' "$status" 10
    has 'and is named' "$err" '[Nn]o space left|disk (is full|cannot be written)'
    check 'no VM is left of that' no_vm
else
    skip 'a full disk' 'no mount namespaces here'
fi
run mvm dev cache prune --all --json
is 'prune --all removes it' "$(json .builder_cache.reason)" missing_artifact
finish
