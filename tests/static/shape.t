#!/bin/sh
# The shape of the sources. What is not there yet stands in tests/static/not-yet, in lists that are exact: they get shorter, never
# longer.
. "$(dirname "$0")/../lib/tap.sh"
cd "$MVM_SOURCE" || exit 1
LC_ALL=C
export LC_ALL

# shrinks WHAT LIST: $tmp/found, in order, is what the list has.
shrinks() {
    is "$1, or it is on the list tests/static/not-yet/$2" "$(comm -13 "tests/static/not-yet/$2" "$tmp/found")" ''
    is "what is mended is taken off the list tests/static/not-yet/$2" "$(comm -23 "tests/static/not-yet/$2" "$tmp/found")" ''
}
long_functions() { awk 'FNR == 1 { from = 0 } /^\{/ { from = FNR } /^\}/ { if (from && FNR - from - 1 > 60) print FILENAME ":" from; from = 0 }' "$@"; }
is 'no function has more than 60 lines' "$(long_functions src/*/*.c)" ''
printf 'void f(void)\n{\n%61s}\n' '' | sed 's/ /\n/g' >"$tmp/new.c"
has 'a function of more lines is found' "$(long_functions "$tmp/new.c")" 'new.c:[0-9]+'

for file in src/*/*.[ch]; do
    [ "$(wc -l <"$file")" -le 450 ] || basename "$file"
done | sort >"$tmp/found"
shrinks 'no file has more than 450 lines' long

grep -liE 'qemu|kvm' src/*/*.[ch] | grep -v '^src/vmm/' | sed 's/.*\///' | sort >"$tmp/found"
shrinks 'no file outside of src/vmm names a VMM or its accelerator' words

# By the symbols of the objects.
is 'no two files need each other' "$(python3 tests/lib/circles.py "$MVM_RELEASE")" ''
mkdir -p "$tmp/build/src/new/libnew.a.p"
for file in one two; do
    other=$([ $file = one ] && echo two || echo one)
    printf 'int %s(void); int %s(void) { return %s(); }\n' $other $file $other | gcc -x c -c -o "$tmp/build/src/new/libnew.a.p/$file.c.o" -
done
is 'two files that need each other are found' "$(python3 tests/lib/circles.py "$tmp/build")" 'new/one.c new/two.c'
finish
