/*
 * mvm-nixdb: puts a folder into Nix's store under the name that the host has computed, without reading what is in it.
 * It runs in the builder, as root; static, because the builder's C library is another one than the host's.
 *
 *     mvm-nixdb TREE PATH HASH SIZE CACHE
 *
 * TREE is a folder as the store has them, on the store's file system; PATH is "/nix/store/..." with the NAR hash HASH
 * (64 hex digits) and the NAR's SIZE. It becomes PATH, unless that is valid already, and is registered in Nix's
 * database in a transaction (libstore/schema.sql, version 10). CACHE is the database of Nix's fetchers, in which one
 * row says that PATH is what a fetch of that hash gives: without it Nix reads and hashes the whole tree once more
 * (libfetchers/cache.cc, version 3).
 *
 * Exit status: 0; 1 with a line on stderr; 3 where Nix's database is of another version.
 */
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STORE    "/nix/store/"
#define DB       "/nix/var/nix/db/db.sqlite"
#define SCHEMA   "/nix/var/nix/db/schema"
#define GC_LOCK  "/nix/var/nix/gc.lock"
#define BUSY_MS  60000
#define HASH_LEN 64 /* hex digits */

enum { DONE = 0, FAILED = 1, USAGE = 2, OTHER_VERSION = 3 };

struct request {
    const char *tree, *path, *hash, *size, *cache;
};

static int say(const char *what, const char *why)
{
    fprintf(stderr, "mvm-nixdb: %s: %s\n", what, why);
    return FAILED;
}

/* ---- SQLite ---- */

/* As other programs say it: what the disk refuses is told from what is wrong by these words. */
static const char *why(sqlite3 *db)
{
    int code = sqlite3_errcode(db) & 0xff, error = sqlite3_system_errno(db);
    if (code == SQLITE_FULL)
        return strerror(ENOSPC);
    return code == SQLITE_IOERR || code == SQLITE_CANTOPEN ? strerror(error ? error : EIO) : sqlite3_errmsg(db);
}

static void close_db(sqlite3 **db)
{
    sqlite3_close(*db);
}

static void finalize(sqlite3_stmt **s)
{
    sqlite3_finalize(*s);
}

static sqlite3 *open_db(const char *path, int flags)
{
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | flags, NULL) == SQLITE_OK) {
        sqlite3_busy_timeout(db, BUSY_MS);
        return db;
    }
    say(path, db ? why(db) : strerror(ENOMEM));
    sqlite3_close(db);
    return NULL;
}

/* Runs one statement with these texts. SQLITE_ROW where it has a result, SQLITE_DONE, or an error. */
static int run(sqlite3 *db, const char *sql, const char *const *texts, int n)
{
    CLEANUP(finalize) sqlite3_stmt *s = NULL;
    int r = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    for (int i = 0; r == SQLITE_OK && i < n; i++)
        r = sqlite3_bind_text(s, i + 1, texts[i], -1, SQLITE_STATIC);
    return r == SQLITE_OK ? sqlite3_step(s) : r;
}

static bool is_done(sqlite3 *db, const char *sql, const char *const *texts, int n)
{
    return run(db, sql, texts, n) == SQLITE_DONE;
}

/* ---- The store ---- */

static bool is_known_version(void)
{
    char text[8] = "";
    CLEAN_FD int fd = open(SCHEMA, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strtol(text, NULL, 10) == 10;
}

/* What lies there without being registered is what a collection or an interrupted job has left. */
static int move(const struct request *q)
{
    if (renameat2(AT_FDCWD, q->tree, AT_FDCWD, q->path, RENAME_NOREPLACE) == 0)
        return 0;
    return errno == EEXIST && renameat2(AT_FDCWD, q->tree, AT_FDCWD, q->path, RENAME_EXCHANGE) == 0 ? 0 : -errno;
}

/* On the disk before it is registered: a builder that is killed leaves no valid path without its content. */
static int sync_tree(const char *path)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || syncfs(fd) < 0 ? -errno : 0;
}

/* SQLITE_ROW where it is valid, SQLITE_DONE where it is not. */
static int look_up(sqlite3 *db, const struct request *q)
{
    return run(db, "select id from ValidPaths where path = ?", &q->path, 1);
}

static bool insert(sqlite3 *db, const struct request *q)
{
    char hash[8 + HASH_LEN], now[24];
    snprintf(hash, sizeof(hash), "sha256:%s", q->hash);
    snprintf(now, sizeof(now), "%lld", (long long)time(NULL));
    const char *const row[] = {q->path, hash, now, q->size};
    return is_done(db,
                   "insert into ValidPaths (path, hash, registrationTime, narSize) values (?, ?, cast(? as integer), "
                   "cast(? as integer))",
                   row, 4) &&
           is_done(db, "commit", NULL, 0);
}

static int add(sqlite3 *db, const struct request *q)
{
    if (look_up(db, q) == SQLITE_ROW)
        return DONE;
    int r = sync_tree(q->tree);
    if (r < 0)
        return say(q->tree, strerror(-r));
    if (!is_done(db, "begin immediate", NULL, 0))
        return say(DB, why(db));
    int found = look_up(db, q); /* another job may have brought the same */
    if (found == SQLITE_ROW)
        return DONE;
    r = found == SQLITE_DONE ? move(q) : 0;
    if (r < 0)
        return say(q->path, strerror(-r));
    return found == SQLITE_DONE && insert(db, q) ? DONE : say(DB, why(db));
}

/* ---- The fetchers' cache ---- */

static int remember(const struct request *q)
{
    CLEANUP(close_db) sqlite3 *db = open_db(q->cache, SQLITE_OPEN_CREATE);
    char key[256], value[160], now[24];
    snprintf(key, sizeof(key),
             "{\"fingerprint\":\"path:%s:\",\"method\":\"nar\",\"name\":\"source\",\"path\":\"/\",\"store\":\"/nix/"
             "store\"}",
             q->hash);
    snprintf(value, sizeof(value), "{\"storePath\":\"%s\"}", q->path + strlen(STORE));
    snprintf(now, sizeof(now), "%lld", (long long)time(NULL));
    const char *const row[] = {key, value, now};
    /* As Nix does with it: what is lost is fetched again. */
    if (!db)
        return FAILED;
    if (run(db, "pragma synchronous = off", NULL, 0) == SQLITE_ERROR ||
        !is_done(db,
                 "create table if not exists Cache (domain text not null, key text not null, value text not null, "
                 "timestamp integer not null, primary key (domain, key))",
                 NULL, 0) ||
        !is_done(db,
                 "insert or replace into Cache (domain, key, value, timestamp) values ('fetchToStore', ?, ?, cast(? as "
                 "integer))",
                 row, 3))
        return say(q->cache, why(db));
    return DONE;
}

int main(int argc, char **argv)
{
    if (argc != 6 || strncmp(argv[2], STORE, strlen(STORE)) != 0 || strchr(argv[2] + strlen(STORE), '/') ||
        strlen(argv[2]) > 120 || strlen(argv[3]) != HASH_LEN || strspn(argv[3], "0123456789abcdef") != HASH_LEN) {
        fprintf(stderr, "usage: mvm-nixdb TREE PATH HASH SIZE CACHE\n");
        return USAGE;
    }
    const struct request q = {argv[1], argv[2], argv[3], argv[4], argv[5]};
    if (!is_known_version())
        return OTHER_VERSION;
    /* Nix collects nothing between the moment when the folder is there and the one when it is registered. */
    CLEAN_FD int lock = open(GC_LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_SH) < 0)
        return say(GC_LOCK, strerror(errno));
    CLEANUP(close_db) sqlite3 *db = open_db(DB, 0);
    if (!db)
        return FAILED;
    int r = add(db, &q);
    return r == DONE ? remember(&q) : r;
}
