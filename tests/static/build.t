#!/bin/sh
# How those build who package: their compiler, buildtype and flags, whose warnings are no errors.
. "$(dirname "$0")/../lib/tap.sh"
cd "$MVM_SOURCE" || exit 1

is 'C7: warnings are errors only where that is asked for' \
    "$(meson introspect --buildoptions meson.build | jq '.[] | select(.name == "werror").value')" false

# One file, with the flag of a distribution that hardens more than we do, which is a warning in every file.
object=src/base/libbase.a.p/buf.c.o
for compiler in gcc clang; do
    build=$tmp/$compiler
    if ! command -v "$compiler" >/dev/null; then
        skip "C7: a packager's flags may warn with $compiler" "no $compiler here"
        continue
    fi
    run env CC="$compiler" CFLAGS='-O2 -D_FORTIFY_SOURCE=3' meson setup "$build" --buildtype=release
    is "C7: buildtype release can be chosen with $compiler" "$status" 0
    run ninja -C "$build" "$object"
    has "C7: a packager's flags may warn with $compiler" "$out" 'FORTIFY_SOURCE.*redefined|macro redefined'
    is "C7: which fails no build with $compiler" "$status" 0
done

# Whole, each build would take too long here.
builds=$(grep -E 'for type in|--buildtype=' tools/check tests/nightly/05-buildtypes.t)
has 'C7: tools/check builds for release with gcc, without a warning' "$builds" 'tools/check:.* -Dwerror=true --buildtype=release'
has 'C7: tools/nightly builds for release with clang, and for size' "$builds" 'for type in clang-release gcc-minsize'
has 'C7: tools/nightly builds those without a warning' "$builds" 'nightly/.* -Dwerror=true --buildtype='
finish
