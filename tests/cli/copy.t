#!/bin/sh
# The host's side of copies: what they may make here, what they may replace, and how they end; the guest's is in
# tests/e2e/32-copy.t.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
image=$tmp/image
test_image "$image"
run mvm up "$image" --name h --memory 256M
is 'a VM is up' "$status" 0
kind_of() { stat -c %F "$1"; }

# What is there is replaced by its own kind only.
mkfifo "$tmp/fifo"
echo kept >"$tmp/victim"
ln -s victim "$tmp/link"
places='fifo link'
if [ "$(id -u)" = 0 ] && mknod "$tmp/device" c 1 3; then places="$places device"; fi
for place in $places; do
    before=$(kind_of "$tmp/$place")
    run mvm cp h:/etc/passwd "$tmp/$place"
    is "R4: a $place here is not replaced by a copy" "$status $(kind_of "$tmp/$place")" "14 $before"
    has "R4: and the error says that it is a $place" "$err" "there is a"
done
is 'R4: nothing is written through a symlink here' "$(cat "$tmp/victim")" kept
run mvm cp "$tmp/fifo" h:/tmp/x
is 'R4: a fifo is not copied into the guest' "$status" 14
has 'R4: and the error says so' "$err" 'it is a fifo'
run mvm cp h:/no/such "$tmp/x"
is 'a file that is not there' "$status" 14
has 'is told' "$err" 'in the guest: cannot read such: No such file'
run mvm cp "$tmp/victim" h:/no/such/place
has 'so is a folder to put it in' "$err" 'in the guest: cannot open /no/such/place: No such file'

# Folders, empty files, large ones.
mkdir -p "$tmp/out/sub/deep"
echo first >"$tmp/out/sub/file"
: >"$tmp/out/empty"
head -c 3000000 /dev/urandom >"$tmp/out/sub/deep/large"
chmod 750 "$tmp/out/sub/file"
run mvm cp "$tmp/out" h:/tmp
is 'a folder is copied into the guest' "$status" 0
run mvm cp h:/tmp/out "$tmp/back"
is 'and out again, under another name' "$status" 0
check 'what comes back is what went' diff -r "$tmp/out" "$tmp/back"
is 'with its modes' "$(stat -c %a "$tmp/back/sub/file")" 750
truncate -s 20M "$tmp/sparse"
printf end | dd of="$tmp/sparse" bs=1 seek=20971517 conv=notrunc 2>/dev/null
mvm cp "$tmp/sparse" h:/tmp/sparse
is 'a hole is one there' "$(mvm exec h -- cat /tmp/sparse | cksum)" "$(cksum <"$tmp/sparse")"
mvm exec h -- rm /tmp/sparse

# A copy that is killed leaves nothing, and what was there.
mkdir "$tmp/half"
mvm exec h -- fill /tmp/forty 40000000
# The process has the file open that it is writing.
writes() { find "/proc/$1/fd" -lname "$tmp/half/*" -print 2>/dev/null | grep -q .; }
killed_copy() {
    "$MVMCTL" cp h:/tmp/forty "$tmp/half/x" 2>/dev/null &
    copy=$!
    until writes $copy || ! kill -0 $copy 2>/dev/null; do :; done
    kill -KILL $copy
    wait $copy
}
if python3 -c 'import os, sys; os.open(sys.argv[1], os.O_TMPFILE | os.O_WRONLY)' "$tmp/half" 2>/dev/null; then
    killed_copy
    is 'R4: a copy that is killed leaves nothing' "$? $(ls -A "$tmp/half")" '137 '
    echo kept >"$tmp/half/x"
    chmod 640 "$tmp/half/x"
    killed_copy
    is 'R4: and the file that it was to replace' "$? $(ls -A "$tmp/half") $(cat "$tmp/half/x")" '137 x kept'
else
    skip 'R4: a copy that is killed leaves nothing' 'files without a name are unknown to this file system'
fi
echo new >"$tmp/fresh"
chmod 751 "$tmp/fresh"
mvm cp "$tmp/fresh" h:/tmp/fresh
run mvm cp h:/tmp/fresh "$tmp/half/x"
is 'R4: what replaces a file brings its mode' "$status $(stat -c %a "$tmp/half/x") $(cat "$tmp/half/x")" '0 751 new'

# A guest that fails early is heard, every time.
truncate -s 300M "$tmp/large"
head -c 20000000 /dev/urandom | dd of="$tmp/large" conv=notrunc status=none
astray=
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
    timeout 60 "$MVMCTL" cp "$tmp/large" h:/tmp/x 2>"$tmp/run.err"
    ended=$?
    [ $ended = 14 ] && grep -q 'No space left' "$tmp/run.err" || astray="$astray $round:$ended"
done
is 'R5: a copy into a full guest ends with the error of the guest, twelve times' "$astray" ''
is 'R4: no half of a file is left' "$(mvm exec h -- ls | grep -c '^/tmp/x')" 0
finish
