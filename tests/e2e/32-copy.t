#!/bin/sh
# Copies in and out of a guest: what they may make, what they may replace, and how they end. One VM for all.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
example hello "$tmp/hello"
run mvm build --flake "$tmp/hello"
is 'an image is built' "$status" 0
run mvm up --flake "$tmp/hello" --name h
is 'and started' "$status" 0
in_h() { mvm exec h -- sh -c "$*"; }
echo new >"$tmp/new"
kind_of() { stat -c %F "$1"; }

# What is there is replaced by its own kind only, here ...
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

# ... and there.
in_h 'mkdir /tmp/d; cd /tmp/d; mkfifo fifo; mknod device c 1 3; echo kept >victim; ln -s victim link'
for place in fifo device link; do
    before=$(in_h "stat -c %F /tmp/d/$place")
    run mvm cp "$tmp/new" "h:/tmp/d/$place"
    is "R4: a $place in the guest is not replaced by a copy" "$status $(in_h "stat -c %F /tmp/d/$place")" "14 $before"
    has "R4: and the guest's error says that it is a $place" "$err" 'in the guest: .*there is a'
done
is 'R4: nothing is written through a symlink there' "$(in_h 'cat /tmp/d/victim')" kept

# Sources that are no files.
run mvm cp "$tmp/fifo" h:/tmp/x
is 'R4: a fifo is not copied into the guest' "$status" 14
has 'R4: and the error says so' "$err" 'it is a fifo'
for place in fifo device; do
    run mvm cp "h:/tmp/d/$place" "$tmp/x"
    is "R4: a $place of the guest is not copied" "$status" 14
    has "R4: and the error says that it is one ($place)" "$err" "it is a $place"
done
run mvm cp h:/proc/version "$tmp/version"
is 'R4: a file of /proc is copied with its content' "$status $(cat "$tmp/version")" "0 $(in_h cat /proc/version)"
cp "$tmp/new" "$tmp/suid"
chmod 6755 "$tmp/suid"
mvm cp "$tmp/suid" h:/tmp/suid
is 'R4: permission bits are kept, set-user-ID is not' "$(in_h stat -c %a /tmp/suid)" 755
ln -s victim "$tmp/one-link"
run mvm cp -L h:/tmp/d/link "$tmp/followed"
is 'T3: what a symlink leads to has the name that was asked for' "$status $(cat "$tmp/followed")" '0 kept'
mkdir "$tmp/into"
run mvm cp -L h:/tmp/d/link "$tmp/into"
is 'T3: in a folder as well' "$status $(ls "$tmp/into")" '0 link'
run mvm cp h:/tmp/d/.. "$tmp/into"
is 'T3: a source without a name is refused' "$status" 14

# Two at once to one place: each is whole, and one of them stays.
head -c 3000000 /dev/zero | tr '\0' a >"$tmp/a"
head -c 3000000 /dev/zero | tr '\0' b >"$tmp/b"
mvm cp "$tmp/a" h:/tmp/both 2>"$tmp/a.err" &
one=$!
mvm cp "$tmp/b" h:/tmp/both 2>"$tmp/b.err" &
two=$!
wait $one
first=$?
wait $two
is 'R4: two copies to one place at once both succeed' "$first $?" '0 0'
is 'R4: and one of them is there, whole' "$(in_h 'tr -d a </tmp/both | wc -c; wc -c </tmp/both' | tr '\n' ' ' | sed 's/^3000000 /0 /')" '0 3000000 '

# A copy that is killed leaves nothing, and what was there.
mkdir "$tmp/half"
in_h 'head -c 40000000 /dev/urandom >/tmp/forty'
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
in_h 'rm /tmp/forty; echo new >/tmp/fresh; chmod 751 /tmp/fresh'
run mvm cp h:/tmp/fresh "$tmp/half/x"
is 'R4: what replaces a file brings its mode' "$status $(stat -c %a "$tmp/half/x") $(cat "$tmp/half/x")" '0 751 new'

# A guest that fails early is heard, every time.
in_h 'mkdir /tmp/small && mount -t tmpfs -o size=47M none /tmp/small'
head -c 60000000 /dev/urandom >"$tmp/large"
astray=
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
    timeout 60 "$MVMCTL" cp "$tmp/large" h:/tmp/small/x 2>"$tmp/run.err"
    ended=$?
    [ $ended = 14 ] && grep -q 'No space left' "$tmp/run.err" || astray="$astray $round:$ended"
done
is 'R5: a copy into a full guest ends with the error of the guest, twelve times' "$astray" ''
is 'R4: no half of a file is left' "$(in_h 'ls -A /tmp /tmp/small' | grep -c mvm-part)" 0
finish
