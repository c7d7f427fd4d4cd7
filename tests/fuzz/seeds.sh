#!/bin/sh
# Writes the seeds that are made by hand: attacks of several steps, which a fuzzer seldom meets by chance. The other
# files of a corpus were found by fuzzing (fuzz-NAME -set_cover_merge=1 -use_counters=0).
set -eu
cd "$(dirname "$0")/corpus"

# seed FILE BYTES: each file is the hex digits given.
seed() {
    file=$1
    shift
    # shellcheck disable=SC2059,SC2046 # the format is made of the bytes
    printf "$(printf '%s' "$*" | tr -d ' ' | sed 's/../0x& /g' | xargs printf '\\%03o')" >"$file"
}

# repeat N HEX
repeat() {
    n=$1
    while [ "$n" -gt 0 ]; do
        printf '%s' "$2"
        n=$((n - 1))
    done
}

# length, stream, type, channel, reserved, payload
seed frame/hand-reserved-bits        01000000 01000000 03 00 0001 61
seed frame/hand-empty-record         00000000 01000000 03 00 0000
seed frame/hand-length-beyond        01000100 01000000 03 00 0000 61
seed frame/hand-all-types            01000000 00000000 01000000 61 01000000 01000000 02000000 61 \
    01000000 01000000 03040000 61 04000000 01000000 04000000 01000000 00000000 01000000 05000000 \
    01000000 01000000 06000000 61 01000000 00000000 07000000 61

# type, version, fields
seed msg/hand-field-beyond-the-end   12 01 01 05000000 61
seed msg/hand-text-of-32-in-32       35 01 01 20000000 "$(repeat 32 61)"
seed msg/hand-seed-of-65             13 01 01 41000000 "$(repeat 65 61)"
seed msg/hand-nul-inside             02 01 01 03000000 610062
seed msg/hand-cwd-twice              20 01 01 01000000 61 03 01000000 61 03 01000000 62

# mood, then steps (fuzz-mux.c, act)
seed mux/hand-window-ignored         00 0800 02010001 00 f900 030101ffff
seed mux/hand-reset-in-closed        08 0800 02010001 00 0800 05010000 00
seed mux/hand-writable-ends-others   28 0100 0100 0201ffff 0201ffff 0201ffff 0201ffff 0201ffff \
    0203ffff 0203ffff 0203ffff 0203ffff 0203ffff 0600ff 0600ff
seed mux/hand-empty-record           00 0800 02010001 00 00000c 000000000100000003000000
seed mux/hand-send-beyond-window     20 0100 "$(repeat 20 0201ffff0600ff0600ff0600ff)"

# steps (fuzz-tree.c, act): 05 is an entry: name, kind, mode, size / 33, target; 02 is a chunk: offset / 17, length, byte
seed tree/hand-file-through-symlink  05 01 03 ff01 0000 0e 05 04 01 ff01 0100 00 02 0000 0500 61 01
seed tree/hand-file-over-symlink     05 00 03 ff01 0000 05 05 00 01 ff01 0100 00 02 0000 0500 61 01
seed tree/hand-folder-over-symlink   05 01 03 ff01 0000 0e 05 01 02 ff01 0000 00 05 04 01 ff01 0100 00 01
seed tree/hand-link-through-symlink  05 01 03 ff01 0000 0e 05 04 03 ff01 0000 00 01
seed tree/hand-dots-inside           05 00 02 ff01 0000 00 05 0a 01 ff01 0100 00 01
seed tree/hand-dots-outside          05 05 01 ff01 0100 00 01
seed tree/hand-overlap               05 00 01 ff01 0001 00 02 0000 6400 61 02 0100 6400 61 01
seed tree/hand-wrong-checksum        05 00 01 ff01 0001 00 02 0000 6400 01 01

# text FILE TEXT: escapes as for printf %b.
text() {
    printf '%b' "$2" >"$1"
}
text toml/hand-strings      'a = "\\u00e9\\U0001F600\\t" # c\nb = """\nx\\\\\n  y""""\n\047c d\047 = \047\047\047z\047\047\047\n'
text toml/hand-numbers      'a = [0xdead_beef, 0o7, 0b1, -1_000, 1.5e-3, +inf, nan, true]\n'
text toml/hand-datetimes    'a = [1979-05-27T07:32:00.5Z, 1979-05-27 07:32:00-07:00, 1979-05-27, 07:32:00]\r\n'
text toml/hand-tables       '[a.b]\nc.d = {e.f = [{}, [1]]}\n[[g]]\n[g.h]\n[[g]]\n[a]\n'
text toml/hand-redefinition '[a.b.c]\nz = 9\n[a]\nb.c.t = 9\n'
text toml/hand-deep         "a = $(repeat 40 '[')"
text toml/hand-surrogate    'a = "\0355\0240\0200"'
# minisign/hand-*: a public key, secret keys without and with a password, signatures of both kinds, by Debian's minisign.
