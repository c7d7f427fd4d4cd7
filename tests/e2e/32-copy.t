#!/bin/sh
# Copies in and out of a guest: what they may make there, what they may replace, and how they end. One VM for all; the host's
# side is in tests/cli/copy.t.
. "$(dirname "$0")/../lib/tap.sh"
wants_image=1
. "$(dirname "$0")/../lib/e2e.sh"
check 'an image is there' test -s "$image/vmlinux"
run mvm up "$image" --name h
is 'and started' "$status" 0
in_h() { mvm exec h -- sh -c "$*"; }
echo new >"$tmp/new"
echo kept >"$tmp/victim"

# What is there is replaced by its own kind only.
in_h 'mkdir /tmp/d; cd /tmp/d; mkfifo fifo; mknod device c 1 3; echo kept >victim; ln -s victim link'
for place in fifo device link; do
    before=$(in_h "stat -c %F /tmp/d/$place")
    run mvm cp "$tmp/new" "h:/tmp/d/$place"
    is "R4: a $place in the guest is not replaced by a copy" "$status $(in_h "stat -c %F /tmp/d/$place")" "14 $before"
    has "R4: and the guest's error says that it is a $place" "$err" 'in the guest: .*there is a'
done
is 'R4: nothing is written through a symlink there' "$(in_h 'cat /tmp/d/victim')" kept

# Sources that are no files.
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

# A guest whose disk fills is heard, every time.
in_h 'mkdir /tmp/small && mount -t tmpfs -o size=47M none /tmp/small'
head -c 60000000 /dev/urandom >"$tmp/large"
astray=
for round in 1 2 3; do
    timeout 60 "$MVMCTL" cp "$tmp/large" h:/tmp/small/x 2>"$tmp/run.err"
    ended=$?
    [ $ended = 14 ] && grep -q 'No space left' "$tmp/run.err" || astray="$astray $round:$ended"
done
is 'R5: a copy into a full guest ends with the error of the guest, three times' "$astray" ''
is 'R4: no half of a file is left' "$(in_h 'ls -A /tmp /tmp/small' | grep -c mvm-part)" 0
finish
