/*
 * mvm-mkrootfs: turns a description into rootfs.ext4. It runs inside Nix's build sandbox, where no
 * other program is, so it is static. The same description and files give the same bytes.
 *
 *     mvm-mkrootfs --spec FILE --output FILE [--store DIR]
 *
 * The description has one directive a line; a line that is empty or begins with '#' is skipped.
 * Fields are separated by one space; the last one takes the rest of the line. In every field %XX
 * stands for a byte: % is %25, bytes below 0x20 and spaces in fields but the last must be written
 * so. MODE has three or four octal digits. Later directives replace what earlier ones put at the
 * same path; a folder over a folder adds to it. Missing parents are made with mode 0755.
 *
 *     dir MODE PATH           a folder
 *     file MODE PATH SOURCE   a copy of a file
 *     text MODE PATH TEXT     a file with that content; TEXT may be empty and may hold %00
 *     link PATH TARGET        a symlink
 *     tree PATH SOURCE        a copy of a folder, modes kept, without devices and sockets
 *     store GRAPH             all that an exportReferencesGraph file (graph.h) lists, in its place
 *     bin PATH SOURCE         symlinks in PATH to what is in SOURCE/bin, where SOURCE has one
 *     label NAME              of the file system, 1 to 16 bytes
 *     spare BYTES             free space beyond the content
 *     uuid-from TEXT          the file system's UUID is made from it
 *     time SECONDS            every timestamp; 1 where it is not given
 *
 * --store reads what /nix/store has from another folder; the paths in the image stay what they are.
 *
 * Errors are one line on stderr, exit status 1, and leave no output file; 2 for a wrong command
 * line.
 */
#include "base/fd.h"
#include "base/path.h"
#include "image/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

struct options {
    const char *spec, *output, *store;
};

static int parse_options(struct options *o, int argc, char **argv)
{
    static const struct option table[] = {
        {"spec", required_argument, NULL, 's'},
        {"output", required_argument, NULL, 'o'},
        {"store", required_argument, NULL, 'S'},
        {0},
    };
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (c == 's')
            o->spec = optarg;
        else if (c == 'o')
            o->output = optarg;
        else if (c == 'S')
            o->store = optarg;
        else
            return -EINVAL;
    }
    return o->spec && o->output && optind == argc ? 0 : -EINVAL;
}

static int load(struct spec *s, const char *file, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(SPEC_MAX);
    int r = path_read_file(AT_FDCWD, file, &text, err);
    if (r == 0 && (r = spec_parse(s, text.data, text.len, err)) < 0)
        return mvm_error_wrap(err, "%s", file);
    return r;
}

static int make(const struct options *o, struct mvm_error *err)
{
    CLEAN_SPEC struct spec s = {0};
    int r = spec_init(&s, o->store);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot start");
    r = load(&s, o->spec, err);
    if (r < 0)
        return r;
    CLEAN_FD int fd = open(o->output, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot make %s", o->output);
    r = ext4_write(fd, &s.tree, &s.opts, err);
    if (r < 0)
        unlink(o->output);
    return r;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    if (parse_options(&o, argc, argv) < 0) {
        fputs("usage: mvm-mkrootfs --spec FILE --output FILE [--store DIR]\n", stderr);
        return 2;
    }
    struct mvm_error err = MVM_ERROR_INIT;
    if (make(&o, &err) < 0) {
        fprintf(stderr, "mvm-mkrootfs: %s\n", err.msg);
        return 1;
    }
    return 0;
}
