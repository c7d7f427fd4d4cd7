#!/bin/sh
# What the documentation says of the code, compared with the code.
. "$(dirname "$0")/../lib/tap.sh"
cd "$MVM_SOURCE" || exit 1

# part BEGIN: what stands in docs/architecture.md between two comments.
part() { sed -n "\|^<!-- $1 -->\$|,\|^<!-- end -->\$|p" "$2/docs/architecture.md" | sed '1d;$d'; }
is "docs/architecture.md has the table of rooms that tools/check-layers prints" "$(part 'tools/check-layers --print' .)" "$(tools/check-layers --print)"
check 'no room may include from another that it does not include from' tools/check-layers --exact .

mkdir -p "$tmp/rooms"
cp -r src "$tmp/rooms/"
sed -i '/^#include "jail\//d' "$tmp"/rooms/src/vmm/*.[ch]
check_fails 'an arrow of the table that nothing uses is found' tools/check-layers --exact "$tmp/rooms"

protocol() { python3 tests/lib/protocol.py "$1" 2>&1; }
is "docs/protocol.md has the frames, messages and fields of src/wire, with their numbers, kinds and order" "$(protocol .)" ''
broken() {
    rm -rf "$tmp/tree" && mkdir -p "$tmp/tree/src" && cp -r docs "$tmp/tree/" && cp -r src/wire src/base "$tmp/tree/src/"
    sed -i "$2" "$tmp/tree/$1"
    protocol "$tmp/tree"
}
has 'a field that is missing in docs/protocol.md is found' "$(broken docs/protocol.md '/^| | | 22 | list/d')" 'message 35 \(BUILD\): docs'
has 'a field of another size is found' "$(broken src/wire/msg.h 's/char folder\[64\]/char folder[63]/')" "SAVE.*'text 63'.*'text 62'"
has 'a message of another name is found' "$(broken src/wire/msg.h 's/MSG_PART = 62/MSG_PIECE = 62/')" 'calls it PART, msg.h PIECE'
has 'a message that is out of order is found' "$(broken docs/protocol.md '/^| 45 | RESUME/{h;d};/^| 46 | LONG/G')" 'do not rise'
has 'a frame of another number is found' "$(broken src/wire/frame.h 's/FRAME_BYE = 7/FRAME_BYE = 8/')" 'frame types and channels'

for command in tools/demo tools/check; do
    has "README.md says what $command does" "$(grep "\`$command\`" README.md)" 'installs what is missing'
done

# Paths in the documentation and headers in comments are those of files that are there.
no_such_paths() {
    (
        cd "$1" && find . docs -maxdepth 1 -name '*.md' -exec cat {} + |
            grep -oE '(^|[^/A-Za-z0-9_.-])(src|docs|tools|tests|bench|nix|examples)/[A-Za-z0-9_./-]*[A-Za-z0-9_]' | grep -oE '[a-z].*' | grep -v '[A-Z]' |
            sort -u | while read -r path; do [ -e "$path" ] || [ -e "$path.c" ] || echo "$path"; done
    )
}
is 'each path that the documentation names is there' "$(no_such_paths .)" ''
# Of the headers of others, those of the kernel's own source are named with their folder.
no_such_headers() {
    (cd "$1" && grep -hE '/\*|^ *\*' src/*/*.[ch] | grep -oE '(^|[^/<a-z_0-9])[a-z_0-9]+\.h\b' | grep -oE '[a-z_0-9]+\.h' | sort -u | while read -r header; do
        [ -n "$(find src tests /usr/include -name "$header" -print -quit 2>/dev/null)" ] || echo "$header"
    done)
}
is 'each header that a comment names is there' "$(no_such_headers .)" ''
rm -rf "$tmp/tree" && mkdir -p "$tmp/tree/src/base" && cp -r docs ./*.md "$tmp/tree/"
echo '/* As nowhere_at_all.h says. */' >"$tmp/tree/src/base/new.c"
is 'a header that is not there is found' "$(no_such_headers "$tmp/tree")" nowhere_at_all.h
has 'a path that is not there is found' "$(no_such_paths "$tmp/tree")" '^src/'
# One width, but for what is one line by nature: a row of a table, a picture, an example.
wide() { (cd "$1" && find . docs -maxdepth 1 -name '*.md' -exec awk 'length > 120 && !/^([|<]|    |\t)/ { print FILENAME ":" FNR }' {} +); }
is 'no line of the documentation is wider than 120 columns' "$(wide .)" ''
printf '%0130d\n' 0 >>"$tmp/tree/docs/README.md"
has 'a line that is too wide is found' "$(wide "$tmp/tree")" '^docs/README.md:'
finish
