#!/bin/sh
# Release images without any VM: export, sign, verify, minisign's own word on it, and every way a set can be bad.
. "$(dirname "$0")/../lib/tap.sh"
server=
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
}

# ---- An image of valid shape ----

image=$MVM_HOME/dev/builds/one
ours "$MVM_HOME" "$MVM_CACHE_DIR"
mkdir -p "$image"
python3 - "$image/vmlinux" <<'END'
import struct, sys
elf = b"\x7fELF\x02\x01\x01" + bytes(9)
elf += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
elf += struct.pack("<IIQQQQQQ", 1, 5, 4096, 0, 0, (2 << 20) - 4096, 0, 0)
open(sys.argv[1], "wb").write(elf.ljust(2 << 20, b"\1"))
END
mke2fs -q -t ext4 "$image/rootfs.ext4" 6M >/dev/null 2>&1
# What is not zero, so that resuming at a wrong place shows.
seq 1 400000 | dd of="$image/rootfs.ext4" bs=1M seek=2 conv=notrunc status=none
printf initrd >"$image/initrd"
printf 'mvm.root=vda\n' >"$image/cmdline.txt"
ln -s builds/one "$MVM_HOME/dev/current"
arch=$(uname -m)

minisign -G -W -p "$tmp/pub" -s "$tmp/key" >/dev/null 2>&1 </dev/null
minisign -G -W -p "$tmp/pub2" -s "$tmp/key2" >/dev/null 2>&1 </dev/null
pub=$(tail -n 1 "$tmp/pub")
id=$(sed -n '1s/.* //p' "$tmp/pub")

# ---- export ----

run "$MVMCTL" dev image export
is 'export without --to' "$status" 2
run "$MVMCTL" dev image export --to "$tmp/x" --kind wrong
is 'export of an unknown kind' "$status" 2
for v in 0 -1 x 1.5 99999999999999999999; do
    run "$MVMCTL" dev image export --to "$tmp/x" --version "$v"
    is "version $v is refused" "$status" 2
done
run "$MVMCTL" dev image export --to "$tmp/x" --kind builder
is 'no builder image: phase builder-bootstrap' "$status" 10
has 'said so' "$err" 'there is no builder image'
run "$MVMCTL" dev image export --to "$tmp/set" --version 7 --json
is 'export' "$(printf '%s' "$out" | jq -r '[.status, .kind, .arch, .version, (.artifacts|length)] | map(tostring) | join(" ")')" \
    "ok dev $arch 7 4"
is 'the manifest' "$(jq -r '[.schema_version, .contract_version, .kind, .arch, .version] | map(tostring) | join(" ")' "$tmp/set/manifest.json")" \
    "1 1 dev $arch 7"
is 'its digests are those of the files' \
    "$(jq -r '.artifacts | to_entries[] | .value.sha256 + "  " + .key' "$tmp/set/manifest.json" | (cd "$tmp/set" && sha256sum --quiet -c -) 2>&1)" ''
is 'a set can be read by a server' "$(stat -c '%a' "$tmp/set" "$tmp/set/vmlinux" "$tmp/set/manifest.json" | tr '\n' ' ')" '755 644 644 '
run "$MVMCTL" dev image export --to "$tmp/set"
is 'a folder that is there is left alone' "$status" 10
truncate -s 3M "$image/rootfs.ext4"
run "$MVMCTL" dev image export --to "$tmp/broken"
is 'an image that is none is not exported' "$status" 13
is 'and leaves nothing' "$(find "$tmp" -maxdepth 1 -name '*broken*')" ''
cp "$tmp/set/rootfs.ext4" "$image/rootfs.ext4"
before=$(date +%s)
run "$MVMCTL" dev image export --to "$tmp/now" --json
check 'the version is the time where none is given' test "$(printf '%s' "$out" | jq .version)" -ge "$before"
mkdir -p "$MVM_CACHE_DIR/builder-vm" && cp -r "$image" "$MVM_CACHE_DIR/builder-vm/$arch"
run "$MVMCTL" dev image export --to "$tmp/builder" --kind builder --json
is 'export of the builder image' "$(printf '%s' "$out" | jq -r .kind)" builder

# ---- sign ----

run "$MVMCTL" dev image verify "$tmp/set" --public-key "$pub"
is 'a set that is not signed does not verify' "$status" 10
run "$MVMCTL" dev image sign "$tmp/set"
is 'sign without a key' "$status" 2
run "$MVMCTL" dev image sign "$tmp/set" --key "$tmp/pub"
has 'a public key signs nothing' "$err" 'not a minisign secret key'
run "$MVMCTL" dev image sign "$tmp/set" --key "$tmp/key" --json
is 'sign' "$(printf '%s' "$out" | jq -r '.status + " " + .key')" "ok $id"
check 'minisign accepts our signature' minisign -V -p "$tmp/pub" -m "$tmp/set/manifest.json"
run "$MVMCTL" dev image verify "$tmp/set" --public-key "$pub"
is 'so do we' "$out" "verified: dev image for $arch, version 7, key $id"
run "$MVMCTL" dev image verify "$tmp/set" --public-key "$tmp/pub2" --public-key "$tmp/pub" --json
is 'one of several keys, from files' "$(printf '%s' "$out" | jq -r .key)" "$id"

cp -r "$tmp/set" "$tmp/theirs"
minisign -S -s "$tmp/key" -m "$tmp/theirs/manifest.json" -t 'a comment' >/dev/null
check 'we accept minisign'"'"'s signature' "$MVMCTL" dev image verify "$tmp/theirs" --public-key "$pub"
minisign -S -l -s "$tmp/key" -m "$tmp/theirs/manifest.json" >/dev/null
check 'the legacy kind, too' "$MVMCTL" dev image verify "$tmp/theirs" --public-key "$pub"
printf x >>"$tmp/theirs/cmdline.txt"
run "$MVMCTL" dev image sign "$tmp/theirs" --key "$tmp/key"
is 'files that are not what the manifest says are not signed' "$status" 10

# With a password. minisign's own keys take a GiB to open (and too long with sanitizers: the release build does it); this
# one, whose password is "secret", was encrypted again for libsodium's interactive limits.
cheap_pub=RWSRYi+IFKjR6Y0yj/kl3zW1CTxv0l33rYFEOf1C19D8qhCH7LE4M8E+
cat >"$tmp/cheap" <<'END'
untrusted comment: minisign encrypted secret key
RWRTY0IyQ8KYpTOzv+jV5BDtfgH7ggGHANRxCvbC4+1TgiU3wt4AAAgAAAAAAAAAAAEAAAAAcHmXejSWA6lFWE0cHgpzfxUWh/qzmtTep5QFKY5RwF6AQlUWZSzMsKaf4512SAMB1vRNufz2rxVHuQM/zzcNoHgZOkvXPzlcmuyfOnV+zY4nwkp4EdZQmPuRCjJc5QHb6lvxYxJeVVc=
END
printf 'secret\n' >"$tmp/password"
printf 'wrong\n' >"$tmp/wrong"
run setsid "$MVMCTL" dev image sign "$tmp/now" --key "$tmp/cheap"
has 'an encrypted key without terminal needs --password-file' "$err" '^mvmctl: hint: .*--password-file'
run "$MVMCTL" dev image sign "$tmp/now" --key "$tmp/cheap" --password-file "$tmp/wrong"
has 'a wrong password' "$err" 'the password is wrong'
run "$MVMCTL" dev image sign "$tmp/now" --key "$tmp/cheap" --password-file "$tmp/password"
check 'the right one' minisign -V -P "$cheap_pub" -m "$tmp/now/manifest.json"
printf 'pass word\npass word\n' | minisign -G -f -p "$tmp/pub3" -s "$tmp/key3" >/dev/null 2>&1
printf 'pass word\n' >"$tmp/password3"
run "$MVM_RELEASE/mvmctl" dev image sign "$tmp/now" --key "$tmp/key3" --password-file /dev/fd/3 3<"$tmp/password3"
check 'minisign'"'"'s own, by a descriptor' minisign -V -p "$tmp/pub3" -m "$tmp/now/manifest.json"
check 'it asks on a terminal' python3 - "$MVMCTL" dev image sign "$tmp/now" --key "$tmp/cheap" <<'END'
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
try:
    while b"Password" not in seen:
        seen += os.read(fd, 4096)
    os.write(fd, b"secret\n")
    while True:
        data = os.read(fd, 4096)
        if not data:
            break
        seen += data
except OSError:
    pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(seen)
sys.exit(status or b": secret" in seen)
END

# ---- verify: folders and file:// ----

run "$MVMCTL" dev image verify "$tmp/set"
is 'no public key: phase config' "$status" 3
printf '[images]\npublic_keys = ["%s"]\n' "$pub" >"$MVM_HOME/config.toml"
check 'the keys of config.toml' "$MVMCTL" dev image verify "$tmp/set"
check 'a file URL' "$MVMCTL" dev image verify "file://$tmp/set/"
is 'nothing of it is kept' "$(ls -A "$MVM_CACHE_DIR/downloads")" .lock
printf '[images]\npublic_key = []\n' >"$MVM_HOME/config.toml"
run "$MVMCTL" dev image verify "$tmp/set"
is 'a key of config.toml that is mistyped' "$status" 3
has 'its line is told' "$err" 'config.toml: line 2: there is no key .public_key.'
has 'and what was meant' "$err" 'did you mean public_keys'
printf '[images]\npublic_keys = ["%s"]\nstall_seconds = 2\nca_file = "%s"\n' "$pub" "$tmp/ca.pem" >"$MVM_HOME/config.toml"
for u in http://127.0.0.1/x ftp://x/y file://host/x https:// 'https://x/?y'; do
    run "$MVMCTL" dev image verify "$u"
    is "the URL $u is refused" "$status" 2
done

# bad NAME PATTERN: the set in $tmp/bad is refused as a folder and from a URL, with a reason like that.
bad() {
    run "$MVMCTL" dev image verify "$tmp/bad"
    is "$1: refused" "$status" 10
    has "$1: why" "$err" "$2"
    run "$MVMCTL" dev image verify "file://$tmp/bad"
    is "$1, from a URL: refused" "$status" 10
    has "$1, from a URL: why" "$err" "${3:-$2}"
    is "$1: nothing is kept" "$(ls -A "$MVM_CACHE_DIR/downloads")" .lock
    rm -rf "$tmp/bad"
    cp -r "$tmp/set" "$tmp/bad"
}
resign() {
    minisign -S -s "$tmp/key" -m "$tmp/bad/manifest.json" >/dev/null
}
# edit FILTER: changes the manifest by jq and signs it again.
edit() {
    jq "$1" "$tmp/set/manifest.json" >"$tmp/bad/manifest.json"
    resign
}
cp -r "$tmp/set" "$tmp/bad"
minisign -S -s "$tmp/key2" -m "$tmp/bad/manifest.json" >/dev/null
bad 'another key' 'none of those that are trusted'
sed -i 's/"version": 7/"version": 8/' "$tmp/bad/manifest.json"
bad 'a changed manifest' 'signature of key .* does not hold'
printf ' ' >>"$tmp/bad/manifest.json"
bad 'one more blank in the manifest' 'does not hold'
sed -i '3s/timestamp/Timestamp/' "$tmp/bad/manifest.json.minisig"
bad 'a changed trusted comment' 'trusted comment'
sed -i '3,$d' "$tmp/bad/manifest.json.minisig"
bad 'a signature without a trusted comment' 'without a trusted comment'
head -c 5000 /dev/zero >"$tmp/bad/manifest.json.minisig"
bad 'a signature too large' 'larger than'
rm "$tmp/bad/manifest.json.minisig"
bad 'no signature' 'manifest.json.minisig'
printf X | dd of="$tmp/bad/rootfs.ext4" bs=1 seek=3000000 conv=notrunc status=none
bad 'one byte of the root file system' 'rootfs.ext4 .*digest differs'
truncate -s -1 "$tmp/bad/rootfs.ext4"
bad 'a truncated file' 'rootfs.ext4 has [0-9]+ bytes where'
printf X >>"$tmp/bad/initrd"
bad 'an oversized file' 'initrd (has 7 bytes where the manifest says 6|is larger)'
rm "$tmp/bad/vmlinux"
bad 'a file that is not there' 'vmlinux'
rm "$tmp/bad/vmlinux" && ln -s "$tmp/set/vmlinux" "$tmp/bad/vmlinux"
run "$MVMCTL" dev image verify "$tmp/bad"
is 'a symlink in a folder is no file' "$status" 10
rm -rf "$tmp/bad" && cp -r "$tmp/set" "$tmp/bad"
printf '{}' >"$tmp/bad/image.json"
run "$MVMCTL" dev image verify "$tmp/bad"
has 'a file that the manifest does not name' "$err" 'image.json is there, but not in the manifest'
rm "$tmp/bad/image.json"
edit '.contract_version = 2'
bad 'another contract' 'another version of mvmctl'
edit '.schema_version = 2'
bad 'another schema' 'schema version 2'
edit '.kind = "other"'
bad 'another kind' 'out of range'
edit '.arch = "../x"'
bad 'an arch that is no name' 'out of range'
edit '.version = 0'
bad 'version 0' 'out of range'
edit '.version = "7"'
bad 'a version in words' "field 'version'"
edit '.artifacts["../x"] = .artifacts.initrd'
bad 'a file outside' 'unknown artifact'
edit '.artifacts.initrd.size = 99999999999999'
bad 'a file too large for any image' 'larger than an image'
edit '.artifacts.initrd.sha256 = "../../x"'
bad 'a digest that is none' 'digest of initrd'
edit 'del(.artifacts.vmlinux)'
bad 'no kernel' 'missing'
printf '[]' >"$tmp/bad/manifest.json" && resign
bad 'no object' 'not a single object'
cp "$tmp/bad/initrd" "$tmp/bad/vmlinux"
edit '.artifacts.vmlinux = .artifacts.initrd'
bad 'a signed set that is no image' 'kernel'

# Rollback: version 8 of this kind, arch and key was used.
used() {
    printf '{"schema_version":1,"versions":{"%s":%s}}' "$1" "$2" >"$MVM_HOME/dev/releases.json"
}
used "dev/$arch/$id" 8
run "$MVMCTL" dev image verify "file://$tmp/set"
is 'an older version than one that was used: refused' "$status" 10
has 'and why' "$err" 'version 7 is older than version 8'
used "dev/$arch/$id" 7
check 'the same version again' "$MVMCTL" dev image verify "file://$tmp/set"
used "builder/$arch/$id" 8
check 'another kind has its own versions' "$MVMCTL" dev image verify "file://$tmp/set"
printf '{"schema_version":1,"versions":{"dev/%s/%s":"9' "$arch" "$id" >"$MVM_HOME/dev/releases.json"
run "$MVMCTL" dev image verify "file://$tmp/set"
has 'a damaged record of versions refuses' "$err" 'cannot be told'
rm "$MVM_HOME/dev/releases.json"

# ---- As a seed of the builder image: before the distribution's packages, which cannot be had with this PATH ----

mkdir -p "$tmp/bin" "$tmp/flake" "$tmp/home2"
printf '{ outputs = _: {}; }\n' >"$tmp/flake/flake.nix"
printf '[images]\ndev_url = "file://%s"\npublic_keys = ["%s"]\n' "$tmp/set" "$pub" >"$tmp/home2/config.toml"
seed() {
    run env PATH="$tmp/bin" MVM_HOME="$tmp/home2" MVM_CACHE_DIR="$tmp/cache2" "$MVMCTL" build --flake "$tmp/flake" --verbose
}
seed
is 'a build without seeds and packages fails' "$status" 10
has 'the published dev image was tried' "$err" "stage 0 seed 'published': no_host_vm_init"
check 'and is kept as a seed' "$MVMCTL" dev image verify "$tmp/home2/dev/prebuilt/v7" --public-key "$pub"
is 'its version is remembered' "$(jq -c .versions "$tmp/home2/dev/releases.json")" "{\"dev/$arch/$id\":7}"
seed
has_not 'one that was tried as a prebuilt one is not tried twice' "$err" "seed 'published'"
rm -rf "$tmp/home2/dev"
sed -i "s|$pub|$(tail -n 1 "$tmp/pub2")|" "$tmp/home2/config.toml"
seed
has 'one of another key is not used' "$err" 'the published dev image is not used .bad_signature.'
check_fails 'nor kept' test -e "$tmp/home2/dev/prebuilt/v7"
printf 'x = 1\n' >>"$tmp/home2/config.toml"
seed
is 'a setting that is wrong ends the build: phase config' "$status" 3

# ---- https ----

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -keyout "$tmp/ca.key" -out "$tmp/ca.pem" 2>/dev/null
mkfifo "$tmp/told"
: >"$tmp/requests"
python3 "$MVM_SOURCE/tests/lib/release-server.py" "$tmp/set" "$tmp/ca.pem" "$tmp/ca.key" "$tmp/requests" "$tmp/told" &
server=$!
read -r port <"$tmp/told"
url=https://127.0.0.1:$port
half=$(($(stat -c %s "$tmp/set/rootfs.ext4") / 2))
digest=$(jq -r '.artifacts["rootfs.ext4"].sha256' "$tmp/set/manifest.json")
partial=$MVM_CACHE_DIR/downloads/$digest.part

run "$MVMCTL" dev image verify "$url/good" --verbose
is 'https' "$status" 0
has 'progress is told in bytes and percent' "$err" 'downloading a published image: vmlinux: [0-9.]+ of 2.1 MB, [0-9]+%'
check 'a redirect to https' "$MVMCTL" dev image verify "$url/https-redirect"
# refused NAME HOW PATTERN
refused() {
    run "$MVMCTL" dev image verify "$url/$2"
    is "$1: refused" "$status" 10
    has "$1: why" "$err" "$3"
    check_fails "$1: nothing of the file is kept" test -e "$partial"
}
refused 'a redirect to http' http-redirect 'redirects to another scheme'
refused 'a redirect to a file' file-redirect 'redirects to another scheme'
refused 'redirects without end' loop 'more than 5 redirects'
refused 'a file larger than the manifest says' large 'larger than the [0-9]+ bytes'
refused 'a file without end' endless 'larger than the [0-9]+ bytes'
# The server gets rid of what fits the sockets' buffers, and no more.
read -r times <"$tmp/told"
check 'it is cut off at once' test "$times" -lt 16
refused 'a file shorter than the manifest says' short 'bytes where [0-9]+ are wanted'
refused 'no set there' nothing/here 'not there'

: >"$tmp/requests"
check 'a connection that breaks is made again' "$MVMCTL" dev image verify "$url/cut"
has 'and goes on where it broke' "$(cat "$tmp/requests")" "^/cut/rootfs.ext4 bytes=$half-"
run "$MVMCTL" dev image verify "$url/cut-always"
is 'one that always breaks ends the command' "$status" 10
is 'half of the file is kept' "$(stat -c %s "$partial")" "$half"
: >"$tmp/requests"
check 'the next command goes on' "$MVMCTL" dev image verify "$url/good"
has 'from there' "$(cat "$tmp/requests")" "^/good/rootfs.ext4 bytes=$half-"
check_fails 'and keeps nothing' test -e "$partial"
head -c "$half" "$tmp/set/rootfs.ext4" >"$partial"
check 'a server without ranges sends all of it again' "$MVMCTL" dev image verify "$url/norange"
head -c "$half" /dev/zero >"$partial"
run "$MVMCTL" dev image verify "$url/good"
has 'a damaged half file is found out' "$err" 'digest differs'
check_fails 'and removed' test -e "$partial"
head -c "$((3 * half))" /dev/zero >"$partial"
check 'one that is too long is begun again' "$MVMCTL" dev image verify "$url/good"
run "$MVMCTL" dev image verify "$url/stall"
has 'a download that stands still' "$err" 'nothing came for 2 s'
rm -f "$partial"

# Interrupted while the server says nothing.
sed -i 's/stall_seconds = 2/stall_seconds = 3600/' "$MVM_HOME/config.toml"
"$MVMCTL" dev image verify "$url/stall-told" >"$tmp/run.out" 2>"$tmp/run.err" &
client=$!
read -r _ <"$tmp/told"
kill -INT "$client"
status=0
wait "$client" || status=$?
is 'a signal ends a download' "$status" 130
check 'what came is kept for the next time' test -e "$partial"
sed -i '/ca_file/d' "$MVM_HOME/config.toml"
run "$MVMCTL" dev image verify "$url/good"
has 'a server that nobody vouches for' "$err" 'not who it should be'
has 'what to do' "$err" 'hint: .*ca_file'
finish
