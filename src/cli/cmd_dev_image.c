/* dev image export, sign, verify: making release sets and checking them. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "host/interrupt.h"
#include "host/os.h"
#include "release/release_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define MAX_PASSWORD 1024

static void print_release(const struct release *r, const struct minisign_key *key, const char *done)
{
    char id[17] = "";
    if (key)
        minisign_key_id(key, id);
    ui_clear();
    if (!ui.json) {
        ui_line("%s: %s image for %s, version %lld%s%s", done, release_kind_name(r->kind), r->arch,
                (long long)r->version, key ? ", key " : "", id);
        return;
    }
    json_object *o = json_object_new_object(), *names = json_object_new_array();
    json_add_string(o, "status", "ok");
    json_add_string(o, "kind", release_kind_name(r->kind));
    json_add_string(o, "arch", r->arch);
    json_add_int(o, "version", r->version);
    json_add_string(o, "created", r->created);
    for (int a = 0; a < ARTIFACT_COUNT; a++)
        if (r->files.artifacts[a].present)
            json_object_array_add(names, json_object_new_string(artifact_name((enum artifact)a)));
    json_add(o, "artifacts", names);
    if (key)
        json_add_string(o, "key", id);
    ui_print_json(o);
}

static int fail(struct mvm_error *err)
{
    mvm_error_phase(err, MVM_PHASE_BUILDER_BOOTSTRAP);
    return ui_fail(err);
}

/* ---- export ---- */

static int parse_version(const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    *ret = text ? strtoll(text, &end, 10) : (int64_t)(clock_wall() / NSEC_PER_SEC);
    return text && (text[0] < '0' || text[0] > '9' || *end || errno || *ret < 1) ? -EINVAL : 0;
}

static int open_image(struct home *h, const struct release *r, struct mvm_error *err)
{
    char path[64] = "dev/current";
    if (r->kind == RELEASE_BUILDER)
        snprintf(path, sizeof(path), "builder-vm/%s", r->arch);
    int fd = openat(r->kind == RELEASE_DEV ? h->state_fd : h->cache_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    mvm_error_errno(err, -errno, "there is no %s image", release_kind_name(r->kind));
    mvm_error_hint(err, "a build makes it");
    return -ENOENT;
}

static int run_dev_image_export(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    struct release r = {0};
    const char *to = arg_value(a, "to"), *kind = arg_value(a, "kind");
    int k = release_kind_parse(kind ? kind : "dev");
    if (a->n_words || a->rest || !to || !*to)
        return ui_usage("name the folder to make with --to", "dev image export: %s",
                        a->n_words || a->rest ? "unexpected argument" : "where to?");
    if (k < 0)
        return ui_usage("give dev or builder", "kind '%.60s'", kind);
    if (parse_version(arg_value(a, "version"), &r.version) < 0)
        return ui_usage("give a whole number from 1 on", "version '%.60s'", arg_value(a, "version"));
    r.kind = (enum release_kind)k;
    snprintf(r.arch, sizeof(r.arch), "%.31s", os_arch());
    interrupt_install();
    if (home_open(&h, &err) < 0)
        return ui_fail(&err);
    CLEAN_FD int image = open_image(&h, &r, &err);
    if (image < 0 || release_export(image, to, &r, &p, &err) < 0)
        return fail(&err);
    print_release(&r, NULL, "exported");
    return 0;
}

/* ---- sign ---- */

/* A secret: into the caller's memory, and nowhere else. The file may be a pipe (/dev/fd/3). */
static int read_secret(const char *path, char *out, size_t size, size_t *ret_len, struct mvm_error *err)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : 1;
    size_t len = 0;
    while (n > 0 && len < size) {
        n = read(fd, out + len, size - len);
        if (n > 0)
            len += (size_t)n;
        else if (n < 0 && errno == EINTR && !interrupt_pending())
            n = 1;
    }
    if (n < 0)
        return mvm_error_errno(err, -errno, "cannot read %s", path);
    if (len == size)
        return mvm_error_set(err, -EMSGSIZE, "%s has more than %zu bytes", path, size - 1);
    out[len] = '\0';
    *ret_len = len;
    return 0;
}

/* From the terminal, unseen. Its settings come back whatever happens; a signal ends the reading. */
static int ask_password(char out[static MAX_PASSWORD], struct mvm_error *err)
{
    struct termios old, quiet;
    CLEAN_FD int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (tty < 0 || tcgetattr(tty, &old) < 0) {
        mvm_error_set(err, -ENOKEY, "the secret key is encrypted, and there is no terminal to ask for its password");
        mvm_error_hint(err, "give the password with --password-file");
        return -ENOKEY;
    }
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(tty, TCSAFLUSH, &quiet);
    static const char prompt[] = "Password of the secret key: ";
    (void)!fd_write_all(tty, prompt, strlen(prompt));
    ssize_t n = read(tty, out, MAX_PASSWORD - 1); /* one line */
    int r = n < 0 ? -errno : 0;
    tcsetattr(tty, TCSAFLUSH, &old);
    (void)!fd_write_all(tty, "\n", 1);
    if (r < 0)
        return mvm_error_errno(err, r, "no password was given");
    out[n] = '\0';
    return 0;
}

static int get_password(const char *file, char out[static MAX_PASSWORD], struct mvm_error *err)
{
    size_t len;
    int r = file ? read_secret(file, out, MAX_PASSWORD, &len, err) : ask_password(out, err);
    if (r == 0)
        out[strcspn(out, "\r\n")] = '\0';
    return r;
}

/* The password is asked for only where the key has one. */
static int load_secret(struct minisign_secret *s, const char *file, const char *password_file, struct mvm_error *err)
{
    char text[MINISIGN_MAX_FILE + 1], password[MAX_PASSWORD];
    size_t len = 0;
    int r = read_secret(file, text, sizeof(text), &len, err);
    if (r == 0)
        r = minisign_secret_parse(s, text, len, NULL, err);
    if (r == -ENOKEY) {
        r = get_password(password_file, password, err);
        if (r == 0)
            r = minisign_secret_parse(s, text, len, password, err);
    }
    explicit_bzero(text, sizeof(text));
    explicit_bzero(password, sizeof(password));
    return r < 0 ? mvm_error_wrap(err, "%s", file) : 0;
}

/* The folder of a set; or -errno. */
static int open_set(const char *path, struct mvm_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    int r = mvm_error_errno(err, -errno, "cannot open folder %s", path);
    mvm_error_hint(err, "name a folder that mvmctl dev image export has made");
    return r;
}

static int run_dev_image_sign(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_MINISIGN_SECRET struct minisign_secret secret = {0};
    struct release r;
    const char *key = arg_value(a, "key");
    if (a->n_words != 1 || a->rest || !key)
        return ui_usage("mvmctl dev image sign FOLDER --key FILE", "dev image sign: %s",
                        key ? "name one folder" : "with which key?");
    interrupt_install();
    CLEAN_FD int dir = open_set(a->words[0], &err);
    if (dir < 0 || load_secret(&secret, key, arg_value(a, "password-file"), &err) < 0 ||
        release_sign(dir, &secret, &r, &err) < 0)
        return fail(&err);
    print_release(&r, &secret.public_key, "signed");
    return 0;
}

/* ---- verify ---- */

/* A public key as it is written, or the file that has it. */
static int load_public(struct minisign_key *k, const char *text, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(MINISIGN_MAX_FILE);
    if (minisign_key_parse(k, text, strlen(text), NULL) == 0)
        return 0;
    int r = path_read_file(AT_FDCWD, text, &b, err);
    if (r == 0)
        r = minisign_key_parse(k, buf_cstr(&b), b.len, err);
    return r < 0 ? mvm_error_wrap(err, "public key '%.100s'", text) : 0;
}

/* Keys on the command line take the place of the configured ones. */
static int choose_keys(const struct args *a, struct config *c, struct mvm_error *err)
{
    char *given[CONFIG_MAX_KEYS + 1];
    size_t n = arg_list(a, "public-key", given, CONFIG_MAX_KEYS + 1);
    if (n > CONFIG_MAX_KEYS) {
        mvm_error_set(err, -E2BIG, "more than %d public keys", CONFIG_MAX_KEYS);
        mvm_error_phase(err, MVM_PHASE_USAGE);
        return -E2BIG;
    }
    for (size_t i = 0; i < n; i++) {
        int r = load_public(&c->public_keys[i], given[i], err);
        if (r < 0) {
            mvm_error_phase(err, MVM_PHASE_USAGE);
            return r;
        }
    }
    if (n)
        c->n_public_keys = n;
    return 0;
}

static int verify_folder(const char *path, const struct config *c, struct release *r, const struct minisign_key **key,
                         struct mvm_error *err)
{
    CLEAN_FD int dir = open_set(path, err);
    if (dir < 0)
        return dir;
    int e = release_verify(dir, c->public_keys, c->n_public_keys, r, key, err);
    return e < 0 ? mvm_error_wrap(err, "%s", path) : 0;
}

static int run_dev_image_verify(struct args *a)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    CLEAN_CONFIG struct config c = CONFIG_INIT;
    struct progress p = PROGRESS_INIT(&ui_progress, &p);
    struct release r;
    const struct minisign_key *key = NULL;
    if (a->n_words != 1 || a->rest)
        return ui_usage("mvmctl dev image verify FOLDER | URL", "dev image verify: name one folder or URL");
    char *what = a->words[0];
    bool is_url = strstr(what, "://") != NULL;
    if (is_url && config_check_url(what, &err) < 0)
        return ui_usage("give an https:// or file:/// URL of the set's folder", "%s", err.msg);
    for (size_t n = strlen(what); is_url && what[n - 1] == '/'; n--)
        what[n - 1] = '\0';
    interrupt_install();
    if (home_open(&h, &err) < 0 || config_load(&c, &h, &err) < 0 || choose_keys(a, &c, &err) < 0)
        return ui_fail(&err);
    int e = is_url ? release_verify_url(&h, &c, what, &p, &r, &key, &err) : verify_folder(what, &c, &r, &key, &err);
    if (e < 0)
        return fail(&err);
    print_release(&r, key, "verified");
    return 0;
}

/* ---- Their descriptions ---- */

static const struct option_spec opt_to = {.name = "to", .argument = "FOLDER", .help = "the folder to make"};

static const struct option_spec opt_kind = {.name = "kind",
                                            .argument = "KIND",
                                            .help = "which image: the dev image (default), or the live builder image",
                                            .values = "dev|builder"};

static const struct option_spec opt_version = {
    .name = "version",
    .argument = "N",
    .help = "its version, higher than all before (default: the seconds since 1970)"};

static const struct option_spec opt_key = {.name = "key", .argument = "FILE", .help = "a minisign secret key"};

static const struct option_spec opt_password_file = {
    .name = "password-file",
    .argument = "FILE",
    .help = "its password, on the first line (default: ask on the terminal)"};

static const struct option_spec opt_public_key = {
    .name = "public-key",
    .argument = "KEY",
    .help = "a minisign public key or its file (default: those of config.toml)"};

#define RELEASE_JSON                                                                                                   \
    "status: ok\n"                                                                                                     \
    "kind: dev or builder\n"                                                                                           \
    "arch: the machine it is for\n"                                                                                    \
    "version: its version\n"                                                                                           \
    "created: when it was exported\n"                                                                                  \
    "artifacts: the names of its files\n"

const struct command cmd_dev_image_export = {
    .name = "dev image export",
    .synopsis = "--to FOLDER [OPTION]...",
    .summary = "make a release set of a local image",
    .text = "Copies the dev image (or the live builder image) into a new folder and writes manifest.json with "
            "the size and digest of each file. Signed with dev image sign and put on a server, it is what "
            "dev_url or builder_url in config.toml points to.",
    .options = OPTIONS(&opt_to, &opt_kind, &opt_version, &opt_json),
    .json = RELEASE_JSON,
    .run = run_dev_image_export,
};

const struct command cmd_dev_image_sign = {
    .name = "dev image sign",
    .synopsis = "FOLDER --key FILE [OPTION]...",
    .summary = "sign a release set",
    .text = "Checks that the files are what manifest.json says and writes manifest.json.minisig, a signature "
            "that minisign verifies as well. The key is one that minisign -G made.",
    .options = OPTIONS(&opt_key, &opt_password_file, &opt_json),
    .json = RELEASE_JSON "key: the number of the key that signed it\n",
    .words = WORDS_FOLDERS,
    .run = run_dev_image_sign,
};

const struct command cmd_dev_image_verify = {
    .name = "dev image verify",
    .synopsis = "FOLDER | URL [OPTION]...",
    .summary = "verify a release set",
    .text = "Verifies the signature over manifest.json and reads every byte of every file. From an https:// or "
            "file:// URL the set is downloaded as it would be for use, an older version than one that was used "
            "is refused, and nothing is kept.",
    .options = OPTIONS(&opt_public_key, &opt_json, &opt_verbose),
    .json = RELEASE_JSON "key: the number of the key that signed it\n",
    .words = WORDS_FOLDERS,
    .run = run_dev_image_verify,
};
