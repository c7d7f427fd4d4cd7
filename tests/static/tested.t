#!/bin/sh
# Each file of a host room has a unit test or a fuzz target that names a function of it.
. "$(dirname "$0")/../lib/tap.sh"
cd "$MVM_SOURCE" || exit 1
LC_ALL=C
export LC_ALL

# functions FILE: those that others can call, and the tables and descriptions that others can use; run:PROGRAM of a file that is
# the whole program, which a test runs from where it was built.
functions() {
    awk '/^[a-z]/ && /\(/ && !/^(static|typedef|extern|return)/ && !/;$/ {
        sub(/\(.*/, ""); sub(/.*[ *]/, ""); if ($0 != "main") print
    }
    /^const struct [a-z_]+ [a-z_]+ = / { print $4 }
    /^const struct [a-z_]+ \*const [a-z_]+\[\] = / { sub(/\[.*/, "", $5); print $5 }' "$1"
    case $1 in
    src/cli/main.c) echo run:mvmctl ;;
    src/jail/inside.c) echo run:mvm-jail ;;
    src/jail/preload.c) echo run:mvm-preload.so ;;
    src/image/nixdb.c | src/image/mkrootfs.c) echo "run:mvm-$(basename "$1" .c)" ;;
    esac
}
# untested TREE: the names of the files that no test names, without their room, which may change.
untested() {
    (
        cd "$1" || exit 1
        {
            cat tests/unit/*.[ch] tests/fuzz/*.[ch] | grep -oE '[a-z_0-9]+'
            cat tests/unit/*.c | grep -oE '(built\("|"%s/)[^"]*"' | sed -n 's/.*[/"]\(mvm[^/"]*\)"$/run:\1/p'
        } | sort -u >"$tmp/named"
        for file in src/*/*.c; do
            case $file in src/guest/* | *_darwin.c) continue ;; esac # of another process, another system
            functions "$file" | sort -u | comm -12 - "$tmp/named" | grep -q . || basename "$file"
        done | sort -u
    )
}
is 'each .c file of a host room has a unit test' "$(untested .)" ''
is 'a unit test makes its folder where tap.h does' "$(grep -lE 'mkdtemp|XXXXXX' tests/unit/*.c)" ''

mkdir -p "$tmp/tree/src/base"
cp -r tests "$tmp/tree/"
printf 'int quite_new(void)\n{\n    return 0;\n}\n' >"$tmp/tree/src/base/new.c"
is 'a file without a test is found' "$(untested "$tmp/tree")" new.c
finish
