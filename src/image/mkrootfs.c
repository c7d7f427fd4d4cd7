/*
 * mvm-mkrootfs: turns a description into rootfs.ext4. It runs inside Nix's build sandbox, where no
 * other program is, so it is static. The same description and files give the same bytes.
 *
 *     mvm-mkrootfs --spec FILE --output FILE [--store DIR] [--set NAME=VALUE]... [--format ext4|initrd]
 *     mvm-mkrootfs --manifest DIR
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
 *     tree PATH SOURCE        a copy of a folder, modes 0755 and 0644, without devices and sockets
 *     copy PATH SOURCE        the same of a folder or a file
 *     home PATH UID GID       a folder with mode 0700 that belongs to that user, where there is nothing yet
 *     absent PATH WHY         an error where earlier lines put something there; WHY it may not be there is told
 *     drop PATTERN            takes out what earlier lines put there; * and ? match within a component
 *     concat MODE PATH SOURCE the files of a folder, one behind the other in the order of names
 *     subst MODE PATH SOURCE  a copy of a text in which @nar:/PATH@ is the Nix hash of what the image has at that path,
 *                             and @sha256:/PATH@ the digest, in hex, of the file there
 *     char MODE PATH MAJOR MINOR   a character device
 *     offers MODE PATH MODULES CONFIG   what the kernel of that configuration offers (kernel_offers.h), a line each;
 *                             MODULES is the folder of the modules that its initrd loads
 *     store GRAPH             all that an exportReferencesGraph file (closure.h) lists, in its place, but what nothing
 *                             in it refers to: the file which the graph was made of
 *     references GRAPH        the same without what that file alone refers to, because it is copied elsewhere
 *     bin PATH SOURCE         symlinks in PATH to what is in SOURCE/bin, where the folder SOURCE has one
 *     label NAME              of the file system, 1 to 16 bytes
 *     spare BYTES             free space beyond the content
 *     uuid-from TEXT          the file system's UUID is made from it
 *     time SECONDS            every timestamp; 1 where it is not given
 *
 * A SOURCE that begins with @NAME@ lies where --set says. --store reads what /nix/store has from another folder; the
 * paths in the image stay what they are. With --format initrd the result is a cpio archive.
 *
 * --manifest writes DIR/manifest.json with the size of each artifact that DIR has.
 *
 * Errors are one line on stderr, exit status 1, and leave no output file; 2 for a wrong command
 * line.
 */
#include "base/fd.h"
#include "base/path.h"
#include "host/sha256.h"
#include "image/cpio.h"
#include "image/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
    const char *spec, *output, *store, *manifest;
    bool initrd;
    char *set[SPEC_MAX_NAMES]; /* NAME=VALUE */
    size_t n_set;
};

static int parse_options(struct options *o, int argc, char **argv)
{
    static const struct option table[] = {
        {"spec", required_argument, NULL, 's'},
        {"output", required_argument, NULL, 'o'},
        {"store", required_argument, NULL, 'S'},
        {"set", required_argument, NULL, '='},
        {"format", required_argument, NULL, 'f'},
        {"manifest", required_argument, NULL, 'm'},
        {0},
    };
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (c == 's')
            o->spec = optarg;
        else if (c == 'o')
            o->output = optarg;
        else if (c == 'S')
            o->store = optarg;
        else if (c == 'm')
            o->manifest = optarg;
        else if (c == '=' && o->n_set < SPEC_MAX_NAMES && strchr(optarg, '='))
            o->set[o->n_set++] = optarg;
        else if (c == 'f' && (strcmp(optarg, "ext4") == 0 || strcmp(optarg, "initrd") == 0))
            o->initrd = optarg[0] == 'i';
        else
            return -EINVAL;
    }
    if (optind != argc)
        return -EINVAL;
    return (o->manifest ? !o->spec && !o->output : o->spec && o->output) ? 0 : -EINVAL;
}

/* ---- The manifest ---- */

#define MANIFEST_CONTRACT 1 /* of a builder image with mvmctl (cache/buildercache.h) */

static int describe(int dirfd, const char *name, struct buf *out, bool *first, struct mvm_error *err)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return 0;
    int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0)
        r = buf_printf(out, "%s\n    \"%s\": { \"size\": %lld }", *first ? "" : ",", name, (long long)st.st_size);
    *first = false;
    return r < 0 ? mvm_error_errno(err, r, "cannot read %s", name) : 0;
}

static int write_manifest(const char *dir, struct mvm_error *err)
{
    static const char *const names[] = {"vmlinux", "rootfs.ext4", "initrd", "cmdline.txt"};
    CLEAN_BUF struct buf out = BUF_INIT(4096);
    CLEAN_FD int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return mvm_error_errno(err, -errno, "%s", dir);
    int r = buf_printf(&out, "{\n  \"schema_version\": 1,\n  \"contract_version\": %d,\n  \"artifacts\": {",
                       MANIFEST_CONTRACT);
    bool first = true;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++)
        r = describe(dirfd, names[i], &out, &first, err);
    if (r == 0)
        r = buf_str(&out, "\n  }\n}\n");
    return r < 0 ? r : path_write_file(dirfd, "manifest.json", out.data, out.len, 0644, false, err);
}

/* ---- Images ---- */

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
    for (size_t i = 0; r == 0 && i < o->n_set; i++) {
        char *value = strchr(o->set[i], '=');
        *value = '\0';
        r = spec_set(&s, o->set[i], value + 1);
    }
    if (r < 0)
        return mvm_error_errno(err, r, "cannot start");
    r = load(&s, o->spec, err);
    if (r < 0)
        return r;
    CLEAN_FD int fd = open(o->output, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot make %s", o->output);
    r = o->initrd ? cpio_write(fd, &s.tree, err) : ext4_write(fd, &s.tree, &s.opts, err);
    if (r < 0)
        unlink(o->output);
    return r;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    if (parse_options(&o, argc, argv) < 0) {
        fputs(
            "usage: mvm-mkrootfs --spec FILE --output FILE [--store DIR] [--set NAME=VALUE]... [--format ext4|initrd]\n"
            "       mvm-mkrootfs --manifest DIR\n",
            stderr);
        return 2;
    }
    struct mvm_error err = MVM_ERROR_INIT;
    if ((o.manifest ? write_manifest(o.manifest, &err) : make(&o, &err)) < 0) {
        fprintf(stderr, "mvm-mkrootfs: %s\n", err.msg);
        return 1;
    }
    return 0;
}
